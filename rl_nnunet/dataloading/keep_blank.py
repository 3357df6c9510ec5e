"""Keep absent channels blank through augmentation."""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.dataloading.unpaired_loader import CONSTANT_TOLERANCE


class KeepBlank(BasicTransform):
    """Apply a transform, then set to zero the channels that were blank before it: constant but for zeros of padding.

    nnU-Net's augmentation adds noise to every channel. A branch that is absent has to stay blank, or the network would
    take it for an image.

    Parameters
    ----------
    transform : BasicTransform
        The whole augmentation.
    """

    def __init__(self, transform: BasicTransform) -> None:
        super().__init__()
        self.transform = transform

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Augment a sample; ``image`` is (channels, *spatial)."""
        flat = data_dict["image"].flatten(1)
        padding = flat.abs() < CONSTANT_TOLERANCE
        highest = flat.masked_fill(padding, -torch.inf).amax(1)
        lowest = flat.masked_fill(padding, torch.inf).amin(1)
        blank = highest - lowest < CONSTANT_TOLERANCE  # -inf where all is zero
        result = self.transform(**data_dict)
        result["image"][torch.nonzero(blank).flatten()] = 0
        return result
