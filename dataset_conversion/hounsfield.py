"""Whether the values of an image can be Hounsfield units: nnU-Net normalizes a channel called CT as if they were."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

# Fat and air lie below, even where a soft-tissue window clips; so does the noise of water. A few voxels prove nothing:
# interpolation undershoots in MR, too.
BELOW_WATER, LEAST_PART = -10.0, 0.005
# From fat to soft tissue; what varies less has been normalized.
LEAST_RANGE = 100.0
WHY_NOT = "hardly any lie below -10, or all of them close together"
SAMPLED_VOXELS = 500_000


def are_possible(image: sitk.Image) -> bool:
    """Tell whether an image holds values such as air or fat have in Hounsfield units, and a range of them."""
    values = sitk.GetArrayViewFromImage(image).ravel()
    low, high = np.percentile(values[:: -(-values.size // SAMPLED_VOXELS)], (100 * LEAST_PART, 100 * (1 - LEAST_PART)))
    return bool(low < BELOW_WATER and high - low >= LEAST_RANGE)
