"""Losses of RL-U2Net; knows nothing of nnU-Net."""
