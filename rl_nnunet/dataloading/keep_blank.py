"""Keep absent channels blank through augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.presence.patches import blank_channels


class KeepBlank(BasicTransform):
    """Apply a transform, then set to zero the channels that were blank before it.

    nnU-Net's augmentation adds noise to every channel. A branch that is absent has to stay blank, or the network would
    take it for an image. What is blank, the network decides by the same criterion.

    Parameters
    ----------
    transform : BasicTransform
        The whole augmentation.
    blank_values : sequence of float
        Value of each channel where it is absent (`rl_nnunet.branches.blank_values`).
    """

    def __init__(self, transform: BasicTransform, blank_values: Sequence[float]) -> None:
        super().__init__()
        self.transform = transform
        self.blank_values = torch.tensor(blank_values, dtype=torch.float32)

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Augment a sample; ``image`` is (channels, *spatial)."""
        blank = blank_channels(data_dict["image"][None], self.blank_values)[0]
        result = self.transform(**data_dict)
        result["image"][torch.nonzero(blank).flatten()] = 0
        return result
