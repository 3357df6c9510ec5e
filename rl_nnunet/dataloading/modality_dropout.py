"""Withhold modalities while a network trains, so that it can do with any subset of them.

The field draws subsets uniformly (RFNet, mmFormer, DeMoSeg): each non-empty subset of a case's modalities is equally
likely. Uniform draws alone rarely show the network all modalities at once, one time in 2^N - 1, which costs it accuracy
where nothing is missing. Hence only a share of the samples is reduced to a subset, and the others keep all.
"""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor


class ModalityDropout(BasicTransform):
    """Apply a transform, then withhold channels: set them to zero, as absent ones are.

    Parameters
    ----------
    transform : BasicTransform
        The whole augmentation; absent channels leave it as zeros (`rl_nnunet.dataloading.keep_blank.KeepBlank`).
    share : float
        Of the samples, the share of which a uniformly drawn non-empty subset is kept, in [0, 1]; the subset may be all.
    """

    def __init__(self, transform: BasicTransform, share: float) -> None:
        super().__init__()
        self.transform = transform
        self.share = share

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Augment a sample; ``image`` is (channels, *spatial)."""
        result = self.transform(**data_dict)
        image = result["image"]
        if torch.rand(()) < self.share:
            present = image.flatten(1).any(1).nonzero().flatten()
            image[present[~draw_subset(len(present))]] = 0
        return result


def draw_subset(size: int) -> Tensor:
    """Return which members of a set belong to a uniformly drawn non-empty subset, booleans (size,); none of none."""
    members = torch.randint(2, (size,), dtype=torch.bool)
    while size and not members.any():
        members = torch.randint(2, (size,), dtype=torch.bool)
    return members
