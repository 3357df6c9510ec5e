"""Networks that nnU-Net builds from the plans."""
