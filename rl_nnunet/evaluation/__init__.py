"""Evaluation per branch and per subset of the modalities."""
