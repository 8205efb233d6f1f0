"""Pictures and captions in, arrays out: captions, rows on disk, manifests, atomic files, published
latents."""
