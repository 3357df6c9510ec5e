"""Prediction with trained models, beside nnU-Net's own commands."""
