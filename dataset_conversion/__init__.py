"""Converters to the raw format of nnU-Net, one module and one command a data set."""
