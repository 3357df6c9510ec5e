"""Policies, rotations and policy optimization; knows nothing of nnU-Net."""
