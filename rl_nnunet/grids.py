"""Where a scan lies, and how a place in one scan is found in another one of the same patient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from rl_nnunet.errors import InputError
from rl_nnunet.headers.claimed_size import check_memory
from rl_nnunet.headers.dicom import read_series
from rl_nnunet.scans import GRID_TOLERANCE, read_information

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

Placement = Literal["physical", "relative"]
# A resampled image, and as much again for what the network makes of it.
RESAMPLED_BYTES = 8
LATTICE = 9
"""Points along each axis by which the part of a scan that another one covers is told."""


@dataclass(frozen=True)
class Grid:
    """The voxels of a scan in the patient.

    Parameters
    ----------
    size, spacing, origin : tuple
        In voxels, mm and mm, x first.
    direction : tuple of float
        Of the axes, as SimpleITK has it.
    frame_of_reference : str
        DICOM's UID of the coordinate system; "" where it is not known.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    frame_of_reference: str = ""

    @property
    def affine(self) -> np.ndarray:
        """The map from indices (x, y, z) to mm, (4, 4)."""
        result = np.eye(4)
        result[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        result[:3, 3] = self.origin
        return result

    def is_same_as(self, other: Grid) -> bool:
        """Tell whether two headers describe one grid: no corner moves by more than a part of a voxel."""
        if self.size != other.size or len(self.size) != 3:
            return self.size == other.size
        corners = np.array([(*index, 1) for index in itertools.product(*((0, extent - 1) for extent in self.size))])
        distances = np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1)
        return bool(distances.max() <= GRID_TOLERANCE * min(other.spacing))

    def share_inside(self, other: Grid) -> float:
        """Return which share of this scan's box lies in that of another, by their coordinates in mm."""
        axes = [np.linspace(0, extent - 1, LATTICE) for extent in self.size]
        points = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones((LATTICE,) * 3)], -1).reshape(-1, 4)
        there = (points @ (np.linalg.inv(other.affine) @ self.affine).T)[:, :3]
        return float(((there >= -0.5) & (there <= np.array(other.size) - 0.5)).all(1).mean())


def read_grid(path: Path) -> Grid:
    """Return the grid of a file, or of a folder with a DICOM series, from the headers alone.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if path.is_dir():
        series = read_series(path)
        return Grid(series.size, series.spacing, series.origin, series.direction, series.frame_of_reference)
    header = read_information(path)
    return Grid(header.GetSize(), header.GetSpacing(), header.GetOrigin(), header.GetDirection())


def relative_map(target: Grid, companion: Grid) -> np.ndarray:
    """Return the map, in mm, from a place in one scan to the one at the same part of the other's extent, (4, 4).

    Axes belong together that point most nearly in one direction, or against each other, whatever their order.
    """
    cosines = np.reshape(companion.direction, (3, 3)).T @ np.reshape(target.direction, (3, 3))
    matched = np.eye(4)
    matched[:3, :3] = 0
    for row, column in zip(*linear_sum_assignment(-np.abs(cosines)), strict=True):
        against = cosines[row, column] < 0
        matched[row, column], matched[row, 3] = (-1, 1) if against else (1, 0)
    to_part, from_part = np.linalg.inv(_part_to_index(target)), _part_to_index(companion)
    return companion.affine @ from_part @ matched @ to_part @ np.linalg.inv(target.affine)


def _part_to_index(grid: Grid) -> np.ndarray:
    """Return the map from parts of the extent, 0 to 1, to indices, whose voxels begin half a voxel before them."""
    result = np.diag([*grid.size, 1.0])
    result[:3, 3] = -0.5
    return result


@dataclass(frozen=True)
class Pair:
    """How one scan lies to another.

    Parameters
    ----------
    transform : array
        From mm in the target to mm in the companion, (4, 4).
    placement : {"physical", "relative"}
        How the place was found.
    description : str
        The same, and what was assumed, for the user.
    """

    transform: np.ndarray
    placement: Placement
    description: str

    def index_map(self, target: np.ndarray, companion: np.ndarray) -> np.ndarray:
        """Return the map from indices of the target to those of the companion, given their maps to mm, all (4, 4)."""
        return np.linalg.inv(companion) @ self.transform @ target


def pair(target: Grid, companion: Grid, pairing: str, files: tuple[Path, Path]) -> Pair:
    """Decide where a companion lies to a target.

    Parameters
    ----------
    target, companion : Grid
        The two scans.
    pairing : {"auto", "physical", "relative"}
        What the user wants.
    files : tuple of Path
        A file of each, for messages.

    Raises
    ------
    InputError
        If the scans do not overlap, but are to be paired by their coordinates.
    """
    if pairing == "physical" and not target.share_inside(companion):
        raise InputError(
            f"{files[0]} and {files[1]} do not overlap by the coordinates in their headers; use --pairing relative, or "
            "none."
        )
    return find_place(target, companion, pairing)


def find_place(target: Grid, companion: Grid, pairing: str) -> Pair:
    """Return where a companion lies to a target, whether or not they overlap; see `pair`."""
    share = target.share_inside(companion)
    placement, reason = _choose(target, companion, share) if pairing == "auto" else (pairing, "")
    if placement == "physical":
        return Pair(np.eye(4), placement, f"by coordinates{reason}")
    return Pair(relative_map(target, companion), placement, f"by relative extent{reason}")


def _choose(target: Grid, companion: Grid, share: float) -> tuple[Placement, str]:
    """Return how to pair two scans, and why: coordinates are of use only if both have one origin."""
    if target.frame_of_reference and companion.frame_of_reference:
        if target.frame_of_reference == companion.frame_of_reference:
            return "physical", ", because they share a frame of reference"
        return "relative", ", because their frames of reference differ"
    if share:
        return "physical", (
            f", because {share:.0%} of its box lies in the other's; this is an assumption, no proof of one frame of "
            "reference: --pairing relative if the headers cannot be trusted"
        )
    return "relative", ", because their boxes do not overlap"


def check_resampled(
    path: Path, shape: Sequence[int], spacing: Sequence[float], plans: PlansManager, configuration: ConfigurationManager
) -> None:
    """Refuse an image that nnU-Net's resampling would make larger than the memory, or nothing.

    Parameters
    ----------
    path : Path
        One of its files.
    shape : sequence of int
        Of the image, with channels, as nnU-Net's readers return it.
    spacing : sequence of float
        As nnU-Net's readers return it.
    plans, configuration : PlansManager, ConfigurationManager
        Of the model.

    Raises
    ------
    InputError
        If it cannot be resampled.
    """
    edges, extents = (np.array(values)[plans.transpose_forward] for values in (spacing, shape[-3:]))
    # nnU-Net resamples slices in their plane.
    target = [edges[0], *configuration.spacing][-3:]
    resampled = [round(extent * edge / new) for extent, edge, new in zip(extents, edges, target, strict=True)]
    if min(resampled) < 1:
        raise InputError(
            f"{path} covers {'x'.join(f'{edge:.4g}' for edge in extents * edges)} mm, less than a voxel of the model; "
            "mend its header."
        )
    check_memory(path, resampled, RESAMPLED_BYTES * shape[0])


def grid_of_properties(properties: dict[str, Any], transpose_forward: list[int]) -> Grid:
    """Return the grid of an image that nnU-Net's reader for ITK has read and its preprocessor has seen."""
    geometry = properties["sitk_stuff"]
    size = np.empty(3, int)
    size[transpose_forward] = properties["shape_before_cropping"]
    return Grid(tuple(size[::-1].tolist()), geometry["spacing"], geometry["origin"], geometry["direction"])


def preprocessed_affine(properties: dict[str, Any], shape: tuple[int, ...], transpose_forward: list[int]) -> np.ndarray:
    """Return the map from indices of a preprocessed image to mm, (4, 4).

    nnU-Net transposes, crops and resamples, by the ratio of sizes, which is that of the spacings only nearly.

    Parameters
    ----------
    properties : dict
        What nnU-Net noted on the way.
    shape : tuple of int
        Of the preprocessed image, without channels.
    transpose_forward : list of int
        Of the plans.
    """
    ratio = np.divide(properties["shape_after_cropping_and_before_resampling"], shape)
    to_cropped = np.diag([*ratio, 1.0])
    to_cropped[:3, 3] = (ratio - 1) / 2
    to_whole = np.eye(4)
    to_whole[:3, 3] = [lower for lower, _ in properties["bbox_used_for_cropping"]]
    to_file = np.zeros((4, 4))
    to_file[3, 3] = 1
    for axis, source in enumerate(transpose_forward):
        to_file[2 - source, axis] = 1  # x first in the file, z first in arrays
    return grid_of_properties(properties, transpose_forward).affine @ to_file @ to_whole @ to_cropped
