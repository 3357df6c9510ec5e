"""Dice, surface Dice and surface distances of two masks, in mm.

The surface of a mask are its voxels that share a face with a voxel outside; what lies beyond the image is outside. A
distance is that from the center of a surface voxel to the center of the nearest one of the other surface. Axes of one
voxel, such as the third of a 2D image, have no surface.

``dice``
    As nnU-Net: NaN where both are empty.
``nsd``
    Normalized surface Dice: the share of the surface voxels of both that lie within the tolerance of the other surface.
``hd95``
    The larger one of the 95th percentiles of the distances from one surface to the other and back.
``msd``
    The mean of all these distances, from both surfaces.

Where both are empty, all four are NaN. Where one is, Dice and surface Dice are 0, and there is no distance (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

METRICS = ("dice", "nsd", "hd95", "msd")


def compare_masks(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], tolerance: float
) -> dict[str, float]:
    """Return `METRICS` of a prediction.

    Parameters
    ----------
    reference, prediction : ndarray of bool
        The masks, of one shape.
    spacing : sequence of float
        Distance between voxels along each axis of the masks, in mm.
    tolerance : float
        Of the surface Dice, in mm.
    """
    voxels = int(reference.sum()), int(prediction.sum())
    if not all(voxels):
        score = 0.0 if any(voxels) else np.nan
        return dict.fromkeys(("dice", "nsd"), score) | dict.fromkeys(("hd95", "msd"), np.nan)
    dice = 2 * int((reference & prediction).sum()) / sum(voxels)
    there, back = surface_distances(reference, prediction, spacing)
    both = np.concatenate((there, back))
    return {
        "dice": dice,
        "nsd": float((both <= tolerance).mean()),
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "msd": float(both.mean()),
    }


def surface_distances(one: np.ndarray, other: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances from each surface voxel of one mask to the surface of the other, and back; none is empty."""
    axes = [axis for axis, extent in enumerate(one.shape) if extent > 1] or [0]
    masks = [mask.reshape([mask.shape[axis] for axis in axes]) for mask in (one, other)]
    # Both surfaces lie in the bounding box of both masks, so that nothing outside of it changes a distance.
    box = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in masks]
    sampling = [spacing[axis] for axis in axes]
    to_surface = [ndimage.distance_transform_edt(~surface, sampling=sampling) for surface in surfaces]
    return to_surface[1][surfaces[0]], to_surface[0][surfaces[1]]
