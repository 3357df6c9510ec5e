"""The part of a preprocessed case that a classifier sees: the box around what is labeled, or the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_nnunet.plans.classification import Crop

Box = tuple[list[int], list[int]]
"""First voxel and first voxel behind the last along each axis."""


class StructureBox:
    """Finds the box of a case.

    Parameters
    ----------
    crop : Crop
        What is cropped.
    spacing : sequence of float
        Of the preprocessed images in mm; of the plane only in 2D.
    """

    def __init__(self, crop: Crop, spacing: Sequence[float]) -> None:
        self.is_whole = crop.crop == "image"
        # In 2D, nnU-Net's images have one slice in front.
        self.margin = np.array([0] * (3 - len(spacing)) + crop.margin_voxels(spacing))

    def of_locations(self, shape: Sequence[int], class_locations: Mapping[Any, Any]) -> Box:
        """Return the box of nnU-Net's ``class_locations``; of a case without foreground the whole image.

        nnU-Net keeps up to 10,000 voxels of each class (and at least 1 % of them), drawn at random, so that the box of
        a very large structure may lack a voxel at its edge.

        Parameters
        ----------
        shape : sequence of int
            Spatial shape of the case.
        class_locations : mapping
            Voxels (channel, z, y, x) of every class or region.
        """
        found = foreground_locations(class_locations)
        return self._around(shape, np.concatenate(found)[:, 1:] if found else np.empty((0, len(shape)), int))

    def of_mask(self, mask: np.ndarray) -> Box:
        """Return the box of a mask (z, y, x)."""
        return self._around(mask.shape, np.argwhere(mask))

    def _around(self, shape: Sequence[int], voxels: np.ndarray) -> Box:
        if self.is_whole or not len(voxels):
            return [0] * len(shape), list(shape)
        lower = np.maximum(voxels.min(0) - self.margin, 0)
        upper = np.minimum(voxels.max(0) + 1 + self.margin, shape)
        return lower.tolist(), upper.tolist()


def foreground_locations(class_locations: Mapping[Any, Any]) -> list[np.ndarray]:
    """Return nnU-Net's voxels of every class or region that occurs.

    With an ignore label, nnU-Net has an entry for all that is annotated, too, which begins with -1.
    """
    classes = {key: voxels for key, voxels in class_locations.items() if np.ravel(key)[0] >= 0}
    return [np.asarray(voxels) for voxels in classes.values() if len(voxels)]
