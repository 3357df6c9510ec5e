"""The normalization of our classifiers."""

from __future__ import annotations

from typing import Any

from torch import nn


class SampleNorm(nn.GroupNorm):
    """Normalizes all channels of a sample together (a group normalization with one group).

    nnU-Net's instance normalization makes the mean of every channel the same in all samples, and the global average
    pooling of a classifier sees nothing but that mean. Batch normalization keeps it, but counts on batches in which the
    samples of every modality are many. Here, the channels of a sample keep their proportions.

    Parameters
    ----------
    num_features : int
        Channels.
    **options
        Of ``GroupNorm``: ``eps``, ``affine``.
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(1, num_features, **options)
