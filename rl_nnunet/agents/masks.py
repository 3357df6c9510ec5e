"""What masks the images of a training: the interface of mask sources, and the settings of all of them.

Cheng et al. (APGA, see `rl_nnunet.policies.mask`) train on each batch twice: on the original and on its *aided* images,
of which only the important part is left. A *mask source* says what is left. The mask agent is one
(`rl_nnunet.agents.mask`); others are what it has to beat (`rl_nnunet.training.mask_baselines`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from rl_nnunet.agents.agent import Agent

MaskKind = Literal["sampled", "paper", "script", "none", "cutout", "grad_cam"]
SampleLosses = Callable[[dict[str, Any]], Tensor]
"""Maps a batch, with ``data`` (B, channels, *spatial), to the task's loss of each sample and group, (B, groups)."""
IS_AIDED = "is_aided"
"""Key of a batch of aided images."""


@dataclass(frozen=True)
class MaskConfig:
    """How a training masks its images.

    Parameters
    ----------
    source : str
        ``sampled``: the mask agent with drawn cells; ``paper``: thresholded, with eq. 3-7; ``script``: thresholded,
        with the loss of the authors' script; ``none``: the original image again; ``cutout``: random rectangles;
        ``grad_cam``: Grad-CAM of the task network.
    pretrained_share : float
        Share of the epochs in which the task network trains without masks, in [0, 1); the paper trains it to
        convergence, which a share cannot know.
    smallest_kept : float
        Aided samples that keep a smaller share of their voxels are skipped, in [0, 1].
    cells : int or None
        How many cells the patch's longest axis is divided into (`rl_nnunet.policies.mask.cell_edges`); None makes every
        voxel a cell, as in the paper.
    draws : int
        Masks that are drawn for each image in a step of the sampled agent; at least 2.
    penalty : float
        lambda_zeros of eq. 7, not negative.
    decay : float
        Of the moving average of the reward, b_t of eq. 7, in [0, 1); of no use to the sampled agent.
    learning_rate : float
        Of the policy's Adam; positive.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    source: MaskKind = "sampled"
    pretrained_share: float = 0.5
    smallest_kept: float = 0.02
    cells: int | None = 8
    draws: int = 4
    penalty: float = 0.1
    decay: float = 0.5
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Check the ranges."""
        in_range = {
            "pretrained_share": 0 <= self.pretrained_share < 1,
            "smallest_kept": 0 <= self.smallest_kept <= 1,
            "cells": self.cells is None or self.cells >= 1,
            "draws": self.draws >= 2,
            "penalty": self.penalty >= 0,
            "decay": 0 <= self.decay < 1,
            "learning_rate": self.learning_rate > 0,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"MaskConfig: {name} is out of range: {getattr(self, name)}.")


class MaskSource(Agent, ABC):
    """Says which part of an image is kept.

    Attributes
    ----------
    is_on : bool
        Whether masks are used yet; the trainer sets it.
    """

    is_on: bool = False

    @abstractmethod
    def keep(self, batch: dict[str, Any]) -> Tensor:
        """Return which voxels the aided images keep, booleans (B, groups, *spatial).

        Parameters
        ----------
        batch : dict
            With the original images, ``data`` (B, channels, *spatial), on the device of the network.
        """
