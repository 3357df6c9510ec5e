"""Where scanners put the grids of CT and MR: the field of view and the spacing of every case."""

from __future__ import annotations

import numpy as np

from rl_nnunet.phantoms.geometry import Grid
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig

# Middle of the template heart, great vessels included, in mm along (z, y, x) of the patient (LPS).
NOMINAL_CENTER = (14.0, -8.0, 0.0)


def sample_ct_grid(rng: np.random.Generator, config: HeartPhantomConfig) -> Grid:
    """Return the grid of one CT: square slices of ``config.size`` voxels, thicker along z."""
    field_z, _, field_x = _field_of_view(rng, config, config.ct_field_of_view_mm)
    in_plane = field_x / config.size
    slice_distance = in_plane * config.ct_slice_ratio * rng.uniform(0.9, 1.1)
    shape = (max(1, round(field_z / slice_distance)), config.size, config.size)
    return Grid.around(_center(rng, config), shape, (slice_distance, in_plane, in_plane))


def sample_mr_grid(rng: np.random.Generator, config: HeartPhantomConfig) -> Grid:
    """Return the grid of one MR: nearly isotropic voxels, about as coarse as the CT's but never below 1 mm or so."""
    field = _field_of_view(rng, config, config.mr_field_of_view_mm)
    nominal = max(config.ct_field_of_view_mm[2] / config.size, config.mr_finest_spacing_mm)
    in_plane = nominal * rng.uniform(0.9, 1.2)
    spacing = (in_plane * rng.uniform(0.9, 1.1), in_plane, in_plane)
    shape = tuple(max(1, round(f / s)) for f, s in zip(field, spacing, strict=True))
    return Grid.around(_center(rng, config), shape, spacing)


def _field_of_view(rng: np.random.Generator, config: HeartPhantomConfig, nominal: tuple[float, ...]) -> list[float]:
    jitter = config.field_of_view_jitter
    return (np.array(nominal) * rng.uniform(1 - jitter, 1 + jitter, size=3)).tolist()


def _center(rng: np.random.Generator, config: HeartPhantomConfig) -> tuple[float, float, float]:
    return tuple((NOMINAL_CENTER + rng.uniform(-config.center_jitter_mm, config.center_jitter_mm, size=3)).tolist())
