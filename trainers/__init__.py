"""Trainers, found by nnU-Net through nnUNet_extTrainer."""
