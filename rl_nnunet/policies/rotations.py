"""Rotations of the cube (24 in 3D) and of the square (4 in 2D) as exact axis permutations and flips.

The action space of PoseAlign, eq. 6 of RL-U2Net. A rotation that maps a grid onto itself is a signed
permutation matrix with determinant +1; the groups below are all such matrices, generated, not typed in.

Convention: with voxel coordinates measured from the center of the map, rotating the map ``x`` by the matrix
``M`` gives the map ``y`` with ``y[M p] = x[p]``: what lies at ``p`` moves to ``M p``. Axes are in
array order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor


def _generate_matrices(dimension: int) -> np.ndarray:
    """Return all signed permutation matrices of determinant +1, the identity first."""
    identity = np.eye(dimension, dtype=np.int64)
    matrices = [
        np.array(signs)[:, None] * identity[list(axes)]
        for axes in permutations(range(dimension))
        for signs in product((1, -1), repeat=dimension)
    ]
    group = np.stack([matrix for matrix in matrices if round(np.linalg.det(matrix)) == 1])
    group.setflags(write=False)
    return group


def _key(matrix: np.ndarray) -> tuple:
    """Return the matrix as a dictionary key."""
    return (matrix.shape, *matrix.ravel().tolist())


def _as_permutation_and_flips(matrix: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the input axis that each axis of the result runs along, and the input axes to be flipped."""
    source_axes = np.abs(matrix).argmax(axis=1)
    flipped = sorted(axis for row, axis in enumerate(source_axes.tolist()) if matrix[row, axis] < 0)
    return tuple(source_axes.tolist()), tuple(flipped)


_MATRICES = {dimension: _generate_matrices(dimension) for dimension in (2, 3)}
# Plain tuples, so that torch.compile sees constants; it would make arrays that it meets writable.
_ACTIONS = {dimension: tuple(map(_as_permutation_and_flips, _MATRICES[dimension])) for dimension in (2, 3)}
_INDEX = {_key(matrix): index for group in _MATRICES.values() for index, matrix in enumerate(group)}


def rotation_matrices(dimension: int) -> np.ndarray:
    """Return the rotation group of the square or the cube.

    Parameters
    ----------
    dimension : int
        2 (the square, 4 rotations) or 3 (the cube, 24 rotations).

    Returns
    -------
    numpy.ndarray
        Integers of shape (R, dimension, dimension), read-only; index 0 is the identity, the order is fixed.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3.

    Examples
    --------
    >>> rotation_matrices(3).shape
    (24, 3, 3)
    """
    _check_dimension(dimension)
    return _MATRICES[dimension]


def rotation_index(matrix: ArrayLike) -> int:
    """Return the index of a rotation matrix in `rotation_matrices`.

    Raises
    ------
    ValueError
        If `matrix` is not a rotation of the square or the cube.
    """
    matrix = np.asarray(matrix)
    index = _INDEX.get(_key(matrix))
    if index is None:
        raise ValueError(f"Not a rotation of the square or the cube: {matrix.tolist()}.")
    return index


def compose(i: int, j: int, dimension: int) -> int:
    """Return the index of the rotation that applies rotation `j` first and then rotation `i`.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3, or an index is out of range.
    """
    _check_index(i, dimension)
    _check_index(j, dimension)
    return rotation_index(_MATRICES[dimension][i] @ _MATRICES[dimension][j])


def inverse(index: int, dimension: int) -> int:
    """Return the index of the rotation that undoes rotation `index`.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3, or the index is out of range.
    """
    _check_index(index, dimension)
    return rotation_index(_MATRICES[dimension][index].T)


def turning(axes: Sequence[int], dimension: int) -> list[int]:
    """Return the rotations that exchange some axes among themselves and flip others at most; a subgroup.

    Parameters
    ----------
    axes : sequence of int
        The axes that may take each other's place.
    dimension : int
        Number of spatial axes, 2 or 3.

    Returns
    -------
    list of int
        Indices in `rotation_matrices`, in order: in 3D all 24 for three axes, 8 for two, and 4 without (the identity
        and three half turns); in 2D 4 for two axes, and 2 without.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3.
    """
    _check_dimension(dimension)
    return [
        index
        for index, (sources, _) in enumerate(_ACTIONS[dimension])
        if all(source == axis or {source, axis} <= set(axes) for axis, source in enumerate(sources))
    ]


def rotate(x: Tensor, index: int, dimension: int) -> Tensor:
    """Rotate a map about its center, exactly, by permuting and flipping its last axes.

    Parameters
    ----------
    x : Tensor
        Shape (..., *spatial), with `dimension` spatial axes and any number of leading axes, of any dtype.
    index : int
        Index of the rotation in `rotation_matrices`.
    dimension : int
        Number of spatial axes, 2 or 3.

    Returns
    -------
    Tensor
        The rotated map; its extents are those of `x` permuted as the rotation permutes the axes.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3, the index is out of range, or `x` has too few axes.
    """
    _check_index(index, dimension)
    _check_axes(x, dimension)
    source_axes, flipped = _ACTIONS[dimension][index]
    return _permute(_flip(x, flipped, dimension), source_axes)


def rotate_to_grid(x: Tensor, matrices: Tensor, exchanged: Sequence[int] | None = None) -> Tensor:
    """Rotate each map by a rotation of its own, and resample where axes of different extent can be swapped.

    The resampling is linear and stretches the whole rotated map to the grid; nothing is cropped or padded. Where all
    axes that can be swapped have one extent, there is nothing to resample: it is `rotate`, exactly, at a fifth of the
    cost. All maps are turned by one call, whatever was drawn: nothing waits for the device, and no graph of a compiler
    depends on the rotations.

    Parameters
    ----------
    x : Tensor
        Shape (B, C, *spatial), floating point.
    matrices : Tensor
        Rows of `rotation_matrices`, floating point of shape (B, dimension, dimension).
    exchanged : sequence of int, optional
        The axes that these rotations may exchange (see `turning`); all by default.

    Returns
    -------
    Tensor
        Shape and type of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    dimension = x.dim() - 2
    _check_dimension(dimension)
    if matrices.shape != (len(x), dimension, dimension):
        raise ValueError(
            f"Maps {tuple(x.shape)} need {len(x)} {dimension}D rotations, got matrices {tuple(matrices.shape)}."
        )
    extents = {x.shape[2 + axis] for axis in (range(dimension) if exchanged is None else exchanged)}
    mode = "bilinear" if len(extents) > 1 else "nearest"  # bilinear is torch's name in 3D, too
    # Each voxel q of the result asks for x at M^-1 q; torch counts the axes from the last one.
    dtype = torch.promote_types(x.dtype, torch.float32)
    sources = functional.pad(matrices.to(dtype).transpose(1, 2).flip((1, 2)), (0, 1))
    with torch.autocast(x.device.type, enabled=False):
        grid = functional.affine_grid(sources, list(x.shape), align_corners=False)
        turned = functional.grid_sample(x.to(dtype), grid, mode, padding_mode="border", align_corners=False)
    return turned.to(x.dtype)


def rotate_all(x: Tensor, dimension: int, indices: Sequence[int] | None = None) -> Tensor:
    """Rotate a cubic (square) map by every rotation of the group, or by some.

    Parameters
    ----------
    x : Tensor
        Shape (..., *spatial), with `dimension` spatial axes of one extent.
    dimension : int
        Number of spatial axes, 2 or 3.
    indices : sequence of int, optional
        Indices of the rotations in `rotation_matrices`; all in order by default.

    Returns
    -------
    Tensor
        Shape (R, *x.shape), R being the number of rotations.

    Raises
    ------
    ValueError
        If `dimension` is neither 2 nor 3, `x` has too few axes, or its spatial extents differ.
    """
    _check_dimension(dimension)
    _check_axes(x, dimension)
    if len(set(x.shape[-dimension:])) > 1:
        raise ValueError(f"All spatial extents must agree, got {tuple(x.shape[-dimension:])}.")
    actions = _ACTIONS[dimension] if indices is None else [_ACTIONS[dimension][index] for index in indices]
    # A flip copies and a permutation does not: each of the 2^d flips is made once and shared.
    flips = {flipped: _flip(x, flipped, dimension) for _, flipped in actions}
    return torch.stack([_permute(flips[flipped], axes) for axes, flipped in actions])


def _flip(x: Tensor, flipped: tuple[int, ...], dimension: int) -> Tensor:
    """Flip the given spatial axes."""
    return x.flip([axis - dimension for axis in flipped]) if flipped else x


def _permute(x: Tensor, source_axes: tuple[int, ...]) -> Tensor:
    """Permute the spatial axes; a view."""
    leading = x.dim() - len(source_axes)
    return x.permute(*range(leading), *(leading + axis for axis in source_axes))


def _check_dimension(dimension: int) -> None:
    if dimension not in _ACTIONS:
        raise ValueError(f"Rotations are defined in 2 and 3 dimensions, not in {dimension}.")


def _check_index(index: int, dimension: int) -> None:
    _check_dimension(dimension)
    if not 0 <= index < len(_ACTIONS[dimension]):
        raise ValueError(f"There is no rotation {index} among {len(_ACTIONS[dimension])}.")


def _check_axes(x: Tensor, dimension: int) -> None:
    if x.dim() < dimension:
        raise ValueError(f"Expected at least {dimension} axes, got a map of shape {tuple(x.shape)}.")
