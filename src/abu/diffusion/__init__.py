"""The model that is asked about: named noise, denoising loss, U-Net, training, sampling,
customizing."""
