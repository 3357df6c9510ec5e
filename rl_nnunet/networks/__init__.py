"""Networks that nnU-Net builds from the plans; knows nothing of trainers."""
