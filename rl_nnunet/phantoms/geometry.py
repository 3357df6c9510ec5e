"""Sampling grids, the 24 rotations of the cube, and small rotations in space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from scipy.spatial.transform import Rotation

from rl_nnunet.phantoms.shapes import Points

# Slices are drawn in slabs of at most about this many voxels, so that a large volume does not need much memory.
VOXELS_PER_SLAB = 2**18


@dataclass(frozen=True)
class Grid:
    """An axis-aligned sampling grid in patient space; everything in array order (z, y, x).

    Indices grow toward superior (z), posterior (y) and left (x): the orientation LPS of ITK.

    Parameters
    ----------
    shape : tuple of int
        Voxels along (z, y, x).
    spacing : tuple of float
        Distance of voxel centers in mm along (z, y, x).
    origin : tuple of float
        Position in mm of the center of the first voxel along (z, y, x).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @classmethod
    def around(
        cls,
        center: tuple[float, float, float],
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
    ) -> Grid:
        """Return the grid whose middle lies at `center` (z, y, x) in mm."""
        origin = tuple(c - (n - 1) / 2 * s for c, n, s in zip(center, shape, spacing, strict=True))
        return cls(tuple(shape), tuple(spacing), origin)

    def slabs(self) -> Iterator[tuple[slice, Points]]:
        """Yield slices along z, and x, y and z in mm (float32, flat, in C order) of their voxels."""
        z, y, x = (
            np.arange(n, dtype=np.float32) * np.float32(s) + np.float32(o)
            for n, s, o in zip(self.shape, self.spacing, self.origin, strict=True)
        )
        step = max(1, VOXELS_PER_SLAB // (len(y) * len(x)))
        for start in range(0, len(z), step):
            slab = slice(start, start + step)
            mesh = np.meshgrid(z[slab], y, x, indexing="ij", copy=False)
            yield slab, tuple(axis.ravel() for axis in reversed(mesh))


def cube_rotations() -> np.ndarray:
    """Return the 24 rotations of the cube as signed permutation matrices, shape (24, 3, 3), int; identity first."""
    matrices = [
        np.diag(signs) @ np.eye(3, dtype=int)[list(order)]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
    return np.stack([m for m in matrices if round(np.linalg.det(m)) == 1])


def rotate_array(array: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turn an array by a rotation of the cube; exact, nothing is resampled.

    With indices counted from the middle of the array, in array order (z, y, x):
    ``rotate_array(array, matrix)[matrix @ index] == array[index]``. The transposed matrix undoes it.

    Parameters
    ----------
    array : numpy.ndarray
        Shape (z, y, x).
    matrix : array of shape (3, 3)
        Signed permutation matrix.

    Returns
    -------
    numpy.ndarray
        A contiguous copy; its shape is permuted along with the axes.
    """
    matrix = np.asarray(matrix)
    source_axes = np.abs(matrix).argmax(axis=1)
    flipped = tuple(int(axis) for axis in range(3) if matrix[axis].sum() < 0)
    return np.ascontiguousarray(np.flip(array.transpose(source_axes), flipped))


def rotate_grid(grid: Grid, matrix: np.ndarray) -> Grid:
    """Return the grid that holds ``rotate_array(array, matrix)``: same middle, shape and spacing permuted."""
    axes = np.abs(np.asarray(matrix)).argmax(axis=1)
    center = tuple(o + (n - 1) / 2 * s for o, n, s in zip(grid.origin, grid.shape, grid.spacing, strict=True))
    return Grid.around(center, tuple(grid.shape[a] for a in axes), tuple(grid.spacing[a] for a in axes))


def random_small_rotation(rng: np.random.Generator, max_degrees: float) -> np.ndarray:
    """Return a rotation matrix of shape (3, 3) about a random axis, by an angle of at most `max_degrees`."""
    axis = rng.normal(size=3)
    angle = rng.uniform(0, max_degrees)
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis), degrees=True).as_matrix()
