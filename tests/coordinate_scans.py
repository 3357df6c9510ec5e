"""Scans whose values are their own coordinates in mm, as nnU-Net preprocesses them."""

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.grids import Grid

STRAIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
CT = Grid((20, 16, 12), (1.0, 1.5, 4.0), (-10.0, 5.0, 30.0), STRAIGHT)


def tilted(angle=0.3):
    """Return the direction of a volume that is turned about two axes."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return tuple(turn.ravel())


def coordinates(grid):
    """Return an image with a channel for each of its coordinates in mm: x, y, z."""
    index = np.stack(np.meshgrid(*(np.arange(extent) for extent in grid.size), indexing="ij"), -1)
    mm = index * grid.spacing @ np.reshape(grid.direction, (3, 3)).T + grid.origin
    return mm.T.astype(np.float32)  # channel, z, y, x


def preprocess(images, segmentation, grid, transpose, spacing):
    """Return what nnU-Net makes of images (channels, z, y, x): data, segmentation, properties.

    The spacing is that of the plans, in their order of axes; of the plane only, in 2D.
    """
    channels = len(images)
    resampling = {"is_seg": False, "order": 1, "order_z": 1, "force_separate_z": False}
    plans = PlansManager(
        {
            "transpose_forward": list(transpose),
            "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(channels)},
            "label_manager": "LabelManager",
            "configurations": {
                "c": {
                    "architecture": {},
                    "spacing": list(spacing),
                    "normalization_schemes": ["NoNormalization"] * channels,
                    "use_mask_for_norm": [False] * channels,
                    "resampling_fn_data": "resample_data_or_seg_to_shape",
                    "resampling_fn_data_kwargs": resampling,
                    "resampling_fn_seg": "resample_data_or_seg_to_shape",
                    "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
                }
            },
        }
    )
    properties = {
        "spacing": list(grid.spacing[::-1]),
        "sitk_stuff": {"spacing": grid.spacing, "origin": grid.origin, "direction": grid.direction},
    }
    return DefaultPreprocessor(verbose=False).run_case_npy(
        images, segmentation, properties, plans, plans.get_configuration("c"), {"labels": {"background": 0, "heart": 1}}
    )
