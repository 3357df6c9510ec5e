"""Resize a crop of any size to the one that a classifier sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor
from torch.nn import functional as F


def resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """Return an image (channels, *spatial) resized to (channels, *size), each axis by itself.

    Axes that shrink are averaged, so that no voxel is left out; axes that grow are interpolated linearly. A channel
    that is constant stays so.
    """
    pool = (F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(size) - 2]
    shrunk = pool(image[None], [min(old, new) for old, new in zip(image.shape[1:], size, strict=True)])
    return F.interpolate(shrunk, size=list(size), mode=("bilinear", "trilinear")[len(size) - 2])[0]


class Resize(BasicTransform):
    """Resize image and segmentation of a sample (channels, *spatial); labels are taken from the nearest voxel.

    Parameters
    ----------
    size : sequence of int
        In voxels.
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = list(size)

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Resize a sample."""
        labels = data_dict["segmentation"]
        nearest = F.interpolate(labels[None].float(), size=self.size, mode="nearest")[0]
        image = resize(data_dict["image"], self.size)
        return {**data_dict, "image": image, "segmentation": nearest.to(labels.dtype)}
