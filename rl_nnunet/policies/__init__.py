"""Policies, modules whose weights live in the network, and the distributions that they draw from; no nnU-Net."""
