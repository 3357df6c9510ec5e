"""Keep absent channels blank through augmentation."""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.dataloading.unpaired_loader import CONSTANT_TOLERANCE


class KeepBlank(BasicTransform):
    """Apply a transform, then set to zero the channels that were constant before it.

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
        constant = flat.amax(1) - flat.amin(1) < CONSTANT_TOLERANCE
        result = self.transform(**data_dict)
        result["image"][torch.nonzero(constant).flatten()] = 0
        return result
