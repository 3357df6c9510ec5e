"""Several branches' labels in one tensor: joined by the loader, taken apart by losses, agents and validation.

nnU-Net's trainer hands one target to its loss: a tensor (samples, channels, *spatial), or a list of them with deep
supervision, finest first. The branches of unpaired data have a label map each; they lie behind each other in the
channel axis, in the order of the branches. Paired branches share one label map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Target = Tensor | list[Tensor]


def join_targets(targets: Sequence[Target]) -> Target:
    """Return the targets of all branches as one, with the structure (tensor or scales) of each."""
    if isinstance(targets[0], list):
        return [torch.cat(scale, dim=1) for scale in zip(*targets, strict=True)]
    return torch.cat(list(targets), dim=1)


def finest(target: Target) -> Tensor:
    """Return the target at full resolution."""
    return target[0] if isinstance(target, list) else target


def at_one_size(logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Return logits and the scale of the target that has their size; without one, they are resized to the finest."""
    for scale in target if isinstance(target, list) else [target]:
        if scale.shape[2:] == logits.shape[2:]:
            return logits, scale
    size = finest(target).shape[2:]
    return F.interpolate(logits, size=size, mode="trilinear" if len(size) == 3 else "bilinear"), finest(target)


class BranchTargets(NamedTuple):
    """How the targets of the branches lie in a batch.

    Attributes
    ----------
    num_branches : int
        Branches of the network.
    are_joined : bool
        Whether every branch has a target of its own (unpaired data); False for one target that all share.
    """

    num_branches: int
    are_joined: bool

    def take(self, target: Target, branch: int, samples: Sequence[int] | None = None) -> Target:
        """Return the target of a branch, of some samples only if given, with the structure of `target`."""
        if isinstance(target, list):
            return [self.take(scale, branch, samples) for scale in target]
        if self.are_joined:
            target = target.chunk(self.num_branches, dim=1)[branch]
        is_all = samples is None or list(samples) == list(range(len(target)))
        return target if is_all else target[list(samples)]
