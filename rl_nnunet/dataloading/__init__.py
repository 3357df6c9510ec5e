"""Data loading for unpaired data sets."""
