"""Differentiable terms, to be minimized; knows nothing of nnU-Net."""
