"""Which branches (or modalities) of a sample are there: absent ones have blank channels.

A channel is blank where it has its blank value (see `rl_nnunet.branches.blank_values`) or, where a patch was padded,
zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLANK_TOLERANCE = 1e-4
"""Resampling leaves a constant channel constant to about 1e-7; real normalized channels vary by much more."""


def blank_channels(x: Tensor, blank_values: Tensor) -> Tensor:
    """Return which channels of (B, channels, *spatial) are blank, booleans (B, channels)."""
    detached = x.detach()
    blank = blank_values.view(1, -1, *[1] * (x.ndim - 2))
    is_blank = ((detached - blank).abs() < BLANK_TOLERANCE) | (detached.abs() < BLANK_TOLERANCE)
    return is_blank.flatten(2).all(-1)


@torch.compiler.disable
def present_groups(x: Tensor, groups: Sequence[Sequence[int]], blank_values: Tensor) -> Tensor:
    """Return which groups of channels each sample has.

    Parameters
    ----------
    x : Tensor
        (B, channels, *spatial).
    groups : sequence of sequence of int
        Channels of every branch or modality.
    blank_values : Tensor
        Value of each channel where it is absent, (channels,).

    Returns
    -------
    Tensor
        Booleans (B, groups). A sample without any (a patch of nothing but padding or background) has them all.
    """
    blank = blank_channels(x, blank_values)
    present = torch.stack([~blank[:, list(channels)].all(1) for channels in groups], dim=1)
    return present | ~present.any(1, keepdim=True)


def rows_of(present: Tensor) -> list[list[int]]:
    """Return, per group, the indices of the samples that have it."""
    return [column.nonzero().flatten().tolist() for column in present.T.cpu()]


@torch.compiler.disable
def withhold(present: Tensor, probability: float) -> Tensor:
    """Withhold one of the present groups of some samples.

    Parameters
    ----------
    present : Tensor
        Booleans (B, groups).
    probability : float
        With which a sample with two or more groups loses one of them, each equally likely.

    Returns
    -------
    Tensor
        Booleans (B, groups), True for what is kept.
    """
    kept = present.cpu().clone()
    for sample in range(len(kept)):
        groups = kept[sample].nonzero().flatten()
        if len(groups) > 1 and torch.rand(()) < probability:
            kept[sample, groups[torch.randint(len(groups), ())]] = False
    return kept.to(present.device)
