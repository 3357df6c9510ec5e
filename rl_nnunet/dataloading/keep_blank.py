"""Keep absent channels blank through augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.networks.presence import absent_channels


class KeepBlank(BasicTransform):
    """Apply a transform, then set to zero the channels that were absent before it.

    nnU-Net's augmentation adds noise to every channel. A branch that is absent has to stay blank, or the network would
    take it for an image. What is absent, the network decides by the same rule (see `rl_nnunet.networks.presence`).

    Parameters
    ----------
    transform : BasicTransform
        The whole augmentation.
    blank_values : sequence of float
        Value of each channel where it is absent (`rl_nnunet.branches.blank_values`).
    groups : sequence of sequence of int
        Channels of every branch or modality of the sample.
    """

    def __init__(
        self, transform: BasicTransform, blank_values: Sequence[float], groups: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.transform = transform
        self.groups = groups
        self.blank_values = torch.tensor(blank_values, dtype=torch.float32)

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Augment a sample; ``image`` is (channels, *spatial)."""
        absent = absent_channels(data_dict["image"][None], self.groups, self.blank_values)[0]
        result = self.transform(**data_dict)
        result["image"][torch.nonzero(absent).flatten()] = 0
        return result
