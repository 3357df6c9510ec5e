"""How images of any organ come about: smooth variation within a tissue, partial volume, bias field and Rician noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Resolution of the smooth random fields, in control points per axis.
TEXTURE_POINTS, BIAS_POINTS = 9, 3


def tissue_signal(
    tissues: np.ndarray, levels: np.ndarray, texture: float, blur_voxels: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the signal of a tissue map (z, y, x) without noise.

    `levels` holds that of every tissue; `texture` is the SD of its smooth variation within one, relative to it.
    """
    signal = levels[tissues]
    signal *= 1 + np.float32(texture) * _smooth_field(tissues.shape, TEXTURE_POINTS, rng)
    return ndimage.gaussian_filter(signal, blur_voxels)


def bias_field(shape: tuple[int, int, int], sd: float, rng: np.random.Generator) -> np.ndarray:
    """Return what a coil multiplies the signal by (float32); `sd` is that of its logarithm."""
    return np.exp(np.float32(sd) * _smooth_field(shape, BIAS_POINTS, rng))


def rician(signal: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Return the magnitude of a signal with noise in its real and in its imaginary part."""
    real = signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def _smooth_field(shape: tuple[int, int, int], points: int, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field (float32, SD somewhat below 1) from a coarse grid of `points` per axis."""
    coarse = rng.standard_normal((points,) * 3).astype(np.float32)
    z, y, x = (_spline_weights(points, length) for length in shape)
    # Axis by axis with plain einsum: a threaded BLAS need not give the same bits every time.
    field = np.einsum("zi,ijk->zjk", z, coarse)
    field = np.einsum("yj,zjk->zyk", y, field)
    return np.einsum("xk,zyk->zyx", x, field)


def _spline_weights(points: int, length: int) -> np.ndarray:
    """Return the cubic interpolation matrix (length, points) from a coarse axis to a fine one."""
    columns = [ndimage.zoom(unit, length / points, order=3, mode="nearest") for unit in np.eye(points)]
    return np.stack(columns, axis=1).astype(np.float32)
