"""Smooth random fields in continuous space, as sums of plane waves: deformations and irregular boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_nnunet.phantoms.shapes import Points


@dataclass(frozen=True)
class Warp:
    """A smooth deformation: the sum of a few plane waves.

    Parameters
    ----------
    wave_vectors : array of shape (n, 3)
        Radians per mm along (x, y, z).
    phases : array of shape (n,)
        Radians.
    amplitudes : array of shape (n, 3)
        Displacement in mm along (x, y, z).
    """

    wave_vectors: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray

    def __call__(self, points: Points) -> Points:
        """Return where in the undeformed anatomy the points (x, y, z; mm) come from."""
        moved = [axis.copy() for axis in points]
        for vector, phase, amplitude in zip(self.wave_vectors, self.phases, self.amplitudes, strict=True):
            wave = _wave(points, vector, phase)
            for axis, a in zip(moved, amplitude, strict=True):
                axis += np.float32(a) * wave
        return tuple(moved)


@dataclass(frozen=True)
class Ripple:
    """A smooth random number with mean 0 and SD 1 everywhere: the sum of a few plane waves.

    Parameters
    ----------
    wave_vectors : array of shape (n, 3)
        Radians per mm along (x, y, z).
    phases : array of shape (n,)
        Radians.
    """

    wave_vectors: np.ndarray
    phases: np.ndarray

    def __call__(self, points: Points) -> np.ndarray:
        """Return the field (float32) at points (x, y, z; mm)."""
        total = np.zeros(len(points[0]), dtype=np.float32)
        for vector, phase in zip(self.wave_vectors, self.phases, strict=True):
            total += _wave(points, vector, phase)
        return total * np.float32(np.sqrt(2 / len(self.phases)))


def sample_warp(rng: np.random.Generator, amplitude_mm: float, waves: int = 5) -> Warp:
    """Draw a deformation with wavelengths of 80 to 180 mm and an amplitude of about `amplitude_mm`."""
    vectors = _wave_vectors(rng, (80, 180), waves)
    amplitudes = rng.normal(size=(waves, 3)) * amplitude_mm / np.sqrt(waves / 2)
    return Warp(vectors, rng.uniform(0, 2 * np.pi, size=waves), amplitudes)


def sample_ripple(rng: np.random.Generator, wavelengths_mm: tuple[float, float], waves: int = 6) -> Ripple:
    """Draw a field with wavelengths in a range."""
    return Ripple(_wave_vectors(rng, wavelengths_mm, waves), rng.uniform(0, 2 * np.pi, size=waves))


def _wave(points: Points, wave_vector: np.ndarray, phase: float) -> np.ndarray:
    v = wave_vector.astype(np.float32)
    return np.sin(v[0] * points[0] + v[1] * points[1] + v[2] * points[2] + np.float32(phase))


def _wave_vectors(rng: np.random.Generator, wavelengths_mm: tuple[float, float], waves: int) -> np.ndarray:
    directions = rng.normal(size=(waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * (2 * np.pi / rng.uniform(*wavelengths_mm, size=(waves, 1)))
