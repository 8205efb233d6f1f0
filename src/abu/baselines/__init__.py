"""Every other method: a function of a few lines each, and a registry."""
