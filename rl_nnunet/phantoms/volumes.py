"""Turns arrays into the images that are written."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from rl_nnunet.phantoms.geometry import Grid


def to_sitk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Return an array (z, y, x) as an image with the geometry of its grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin[::-1])
    return image
