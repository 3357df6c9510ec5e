"""The window of one scan at the place of another scan's window, between its voxels where that is sound.

The voxels of two grids meet only by chance: the nearest ones are up to half a voxel off along each axis, which costs a
part of what a companion's detail gains (docs/benchmarks.md). So its window is read between its voxels, by linear
interpolation. But not across thick slices: halfway between two of them lies what neither shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD

LEAST_OFFSET = 1e-3
"""In voxels: scans on one grid are apart by less, when their places are computed, and need no interpolation."""
TIE = 1e-9
"""What the nearest voxel's label has ahead of others."""


class Window(NamedTuple):
    """Where a window lies.

    Attributes
    ----------
    start : array
        The index of its first voxel, whole numbers.
    offset : array
        How far from its voxels, towards higher indices, the place lies that it has to show, in voxels, in [-0.5, 0.5).
    """

    start: np.ndarray
    offset: np.ndarray

    def shown_by(self, image: Any) -> BetweenVoxels:
        """Return the image from which the window is cropped."""
        return BetweenVoxels(image, self.offset)

    def shown_by_labels(self, labels: Any) -> BetweenVoxels:
        """Return the labels from which the window is cropped."""
        return LabelsBetweenVoxels(labels, self.offset)


def interpolated_axes(spacing: Sequence[float]) -> np.ndarray:
    """Return along which of three axes windows are read between voxels: within slices, and across thin ones.

    Parameters
    ----------
    spacing : sequence of float
        Planned, in mm; of a 2D configuration, which leaves the slices as they are, the last two axes.
    """
    in_plane = np.array(spacing) <= ANISO_THRESHOLD * min(spacing)
    return np.array([*[False] * (3 - len(spacing)), *in_plane])


def corresponding_window(to_index: np.ndarray, lower: np.ndarray, size: np.ndarray, axes: np.ndarray) -> Window:
    """Return the window of one scan that is centered on the place of a window of another one.

    Parameters
    ----------
    to_index : array
        The map from indices of the other scan to indices of this one, (4, 4).
    lower, size : array
        First index of the other scan's window, and the size of both, in voxels.
    axes : array
        Booleans: along which axes the window may be read between voxels.
    """
    first = (to_index @ [*(lower + (size - 1) / 2), 1])[:3] - (size - 1) / 2
    start = np.floor(first + 0.5)
    offset = first - start
    return Window(start.astype(int), np.where(axes & (np.abs(offset) >= LEAST_OFFSET), offset, 0.0))


class BetweenVoxels:
    """A view of an image, (channels, *spatial), whose voxels lie between those of the image.

    It is read by slices that reach into the image, as nnU-Net crops patches; only what is needed is read. A constant
    stays exactly what it is.

    Parameters
    ----------
    image : array or Tensor
        What can be read by slices.
    offset : sequence of float
        Along each spatial axis, how far from a voxel of the image, towards higher indices, the one lies that takes its
        place, in (-1, 1). Beyond its ends, the image goes on as it ends.
    """

    def __init__(self, image: Any, offset: Sequence[float]) -> None:
        self.image, self.offset = image, [float(share) for share in offset]
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, len(image.shape)

    def __getitem__(self, item: tuple[slice, ...]) -> Any:
        """Read a region of some channels, given by a slice for each axis."""
        read, here, there = [], [], []
        for place, share, extent in zip(item[1:], self.offset, self.shape[1:], strict=True):
            (first, last, _), step = place.indices(extent), int(np.sign(share))
            start = max(first + min(step, 0), 0)
            read.append(slice(start, min(last + max(step, 0), extent)))
            here.append(slice(first - start, last - start))
            neighbors = np.clip(np.arange(first, last) + step, 0, extent - 1) - start
            inside = neighbors[-1] - neighbors[0] == last - first - 1
            there.append(slice(neighbors[0], neighbors[-1] + 1) if inside else neighbors)
        return self._between(self.image[(item[0], *read)], here, there)

    def _between(self, region: Any, here: Sequence[slice], there: Sequence[slice | np.ndarray]) -> Any:
        """Return what lies between some voxels of a region and their neighbors, given by their places on each axis."""
        for axis, share in enumerate(self.offset):
            one, other = (_along(region, axis + 1, places[axis]) for places in (here, there))
            region = one + abs(share) * (other - one) if share else one
        return region


class LabelsBetweenVoxels(BetweenVoxels):
    """The same of an array of labels: between voxels lies the label that most of what is interpolated has.

    Where several have as much, and the nearest voxel's is among them, it is that one.
    """

    def _between(self, region: np.ndarray, here: Sequence[slice], there: Sequence[slice | np.ndarray]) -> np.ndarray:
        corners, shares = [region], [1.0]
        for axis, share in enumerate(map(abs, self.offset)):
            sides = [(here[axis], 1 - share), (there[axis], share)] if share else [(here[axis], 1.0)]
            shares = [part * weight for _, weight in sides for part in shares]
            corners = [_along(corner, axis + 1, places) for places, _ in sides for corner in corners]
        result = corners[0].copy()
        is_mixed = np.zeros(result.shape, bool)
        for corner in corners[1:]:
            is_mixed |= corner != corners[0]
        labels = np.stack([corner[is_mixed] for corner in corners])
        votes = np.stack([np.tensordot(shares, labels == one, 1) for one in labels])
        votes[0] += TIE
        result[is_mixed] = np.take_along_axis(labels, votes.argmax(0)[None], 0)[0]
        return result


def _along(region: Any, axis: int, places: slice | np.ndarray) -> Any:
    """Return some places along one axis of an array or tensor."""
    return region[(*[slice(None)] * axis, places)]
