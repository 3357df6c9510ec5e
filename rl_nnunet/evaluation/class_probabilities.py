"""The probabilities that a classifier gives, averaged over mirrored images as nnU-Net's predictions are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def class_probabilities(network: nn.Module, x: Tensor, mirror_axes: Sequence[int] | None = None) -> Tensor:
    """Return the probabilities of the classes, (B, classes), float32.

    Parameters
    ----------
    network : Module
        In evaluation mode; returns logits (B, classes).
    x : Tensor
        (B, channels, *spatial), on the network's device.
    mirror_axes : sequence of int, optional
        Spatial axes, from 0 on: the mean is taken over the images mirrored along each subset of them.
    """
    axes = [axis + 2 for axis in mirror_axes or ()]
    subsets = itertools.chain.from_iterable(itertools.combinations(axes, size) for size in range(len(axes) + 1))
    with torch.autocast(x.device.type, enabled=x.device.type == "cuda"):
        logits = [network(x.flip(subset) if subset else x) for subset in subsets]
    return torch.stack([torch.softmax(each.float(), 1) for each in logits]).mean(0)
