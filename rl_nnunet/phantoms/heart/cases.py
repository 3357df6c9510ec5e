"""Phantom hearts as arrays: cases as the command writes them, and small registered pairs made on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np

from rl_nnunet.phantoms.geometry import Grid, cube_rotations, rotate_array, rotate_grid
from rl_nnunet.phantoms.heart.anatomy import sample_heart
from rl_nnunet.phantoms.heart.appearance import render_ct, render_mr
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.grids import NOMINAL_CENTER, sample_ct_grid, sample_mr_grid
from rl_nnunet.phantoms.heart.render import render_heart
from rl_nnunet.phantoms.heart.tissues import labels_from_heart

Modality = Literal["ct", "mr"]

# Every random thing about a case has a stream of its own, so that no option changes more than what it is about.
_HEART_STREAM = {"ct": 0, "mr": 1}
_IMAGE_STREAM = {"ct": 2, "mr": 3}
_ROTATION_STREAM = 4
_ORIENTATION_STREAM = {"ct": 5, "mr": 6}


@dataclass(frozen=True)
class HeartCase:
    """One image with its labels, in LPS order.

    Parameters
    ----------
    image : numpy.ndarray
        Shape (z, y, x), int16; HU for CT.
    labels : numpy.ndarray
        Shape (z, y, x), uint8, class indices (`rl_nnunet.phantoms.heart.tissues.CLASS_NAMES`).
    grid : Grid
        Where the voxels lie in the patient.
    rotation : numpy.ndarray
        Shape (3, 3): the rotation of the cube that the content was turned by (see
        `rl_nnunet.phantoms.geometry.rotate_array`); the identity if it was not.
    """

    image: np.ndarray
    labels: np.ndarray
    grid: Grid
    rotation: np.ndarray


@dataclass(frozen=True)
class HeartPair:
    """CT and MR of one heart on one grid, the MR possibly turned; arrays in order (z, y, x).

    Parameters
    ----------
    ct, mr : numpy.ndarray
        int16 images.
    ct_labels, mr_labels : numpy.ndarray
        uint8 class indices, each matching its own image.
    rotation : numpy.ndarray
        Shape (3, 3): ``mr_labels == rotate_array(ct_labels, rotation)``.
    spacing : tuple of float
        Voxel size in mm along (z, y, x), before the rotation.
    """

    ct: np.ndarray
    mr: np.ndarray
    ct_labels: np.ndarray
    mr_labels: np.ndarray
    rotation: np.ndarray
    spacing: tuple[float, float, float]


def make_heart_pair(
    rng: np.random.Generator | int,
    size: int | tuple[int, int, int] = 32,
    rotate_mr: bool = False,
    config: HeartPhantomConfig | None = None,
) -> HeartPair:
    """Make CT and MR of one heart as registered arrays with isotropic voxels.

    Parameters
    ----------
    rng : numpy.random.Generator or int
        Source of randomness, or its seed.
    size : int or tuple of int
        Shape (z, y, x); its longest axis spans ``config.pair_field_of_view_mm``.
    rotate_mr : bool
        Turn the content of the MR by one of the 24 rotations of the cube, drawn uniformly.
    config : HeartPhantomConfig, optional
        How hearts and images vary.

    Examples
    --------
    >>> from rl_nnunet.phantoms.heart.cases import make_heart_pair
    >>> pair = make_heart_pair(0, size=32, rotate_mr=True)
    >>> pair.ct.shape, pair.ct_labels.max()
    ((32, 32, 32), 7)
    """
    config = config or HeartPhantomConfig()
    rng = np.random.default_rng(rng)
    shape = (size,) * 3 if isinstance(size, int) else tuple(size)
    spacing = (config.pair_field_of_view_mm / max(shape),) * 3
    tissues = render_heart(sample_heart(rng, config), Grid.around(NOMINAL_CENTER, shape, spacing))
    labels = labels_from_heart(tissues)
    ct, mr = render_ct(tissues, rng, config), render_mr(tissues, rng, config)
    rotation = _draw_rotation(rng, rotate_mr)
    return HeartPair(ct, rotate_array(mr, rotation), labels, rotate_array(labels, rotation), rotation, spacing)


def make_heart_case(
    seed: int,
    modality: Modality,
    number: int,
    paired: bool = False,
    rotate: bool = False,
    config: HeartPhantomConfig | None = None,
) -> HeartCase:
    """Make one case of a data set; it depends on nothing but the arguments.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    modality : {"ct", "mr"}
        What to make an image of.
    number : int
        Number of the case in its file name.
    paired : bool
        The CT and the MR of a number show the same heart, in the same place of patient space.
    rotate : bool
        Turn the content by a random rotation of the cube, the middle of the image staying where it is.
    config : HeartPhantomConfig, optional
        How hearts and images vary.
    """
    config = config or HeartPhantomConfig()
    heart = sample_heart(_stream(seed, _HEART_STREAM["ct" if paired else modality], number), config)
    rng = _stream(seed, _IMAGE_STREAM[modality], number)
    sample_grid, render_image = (sample_ct_grid, render_ct) if modality == "ct" else (sample_mr_grid, render_mr)
    grid = sample_grid(rng, config)
    tissues = render_heart(heart, grid)
    image, labels = render_image(tissues, rng, config), labels_from_heart(tissues)
    rotation = _draw_rotation(_stream(seed, _ROTATION_STREAM, number), rotate)
    return HeartCase(
        rotate_array(image, rotation), rotate_array(labels, rotation), rotate_grid(grid, rotation), rotation
    )


def draw_orientation(seed: int, modality: Modality, number: int) -> str:
    """Return the three letters of an anatomical orientation other than LPS, drawn uniformly, for one case."""
    rng = _stream(seed, _ORIENTATION_STREAM[modality], number)
    codes = list(product("LR", "PA", "SI"))
    orientations = ["".join(code[axis] for axis in order) for order in permutations(range(3)) for code in codes]
    orientations.remove("LPS")
    return orientations[rng.integers(len(orientations))]


def _stream(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))


def _draw_rotation(rng: np.random.Generator, rotate: bool) -> np.ndarray:
    rotations = cube_rotations()
    return rotations[rng.integers(len(rotations))] if rotate else rotations[0]
