"""Planners and the fingerprint extractor."""
