"""Whether the values of an image can be Hounsfield units: nnU-Net normalizes a channel called CT as if they were."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

# Fat and air lie below, even where a soft-tissue window clips, and so does the noise of water. A few voxels prove
# nothing: interpolation undershoots in MR, too.
BELOW_WATER, LEAST_PART = -10.0, 0.005
# From fat to soft tissue; what varies less has been normalized.
LEAST_RANGE = 100.0
SAMPLED_VOXELS = 500_000


def why_impossible(image: sitk.Image) -> str:
    """Return why the values of an image cannot be Hounsfield units; empty if they can."""
    values = sitk.GetArrayViewFromImage(image).ravel()
    low, high = np.percentile(values[:: -(-values.size // SAMPLED_VOXELS)], (100 * LEAST_PART, 100 * (1 - LEAST_PART)))
    if high - low < LEAST_RANGE:
        return f"nearly all lie within {LEAST_RANGE:g} of each other"
    if low >= BELOW_WATER:
        return "hardly any lies below water, as fat and air do"
    return ""
