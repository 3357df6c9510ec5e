"""Evaluation per branch."""
