"""The window of one scan at the place of another scan's window, between its voxels where that is sound.

The voxels of two grids meet only by chance: the nearest ones are up to half a voxel off along each axis. That is what a
companion then shows in the wrong place, and more than its detail is worth (docs/benchmarks.md). So its window is read
between its voxels, by linear interpolation, but not across slices: halfway between two thick ones lies what neither
shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD

TIE = 1e-9
"""What the nearest voxel's label has ahead of others."""


class Window(NamedTuple):
    """Where a window lies.

    Attributes
    ----------
    start : array
        The index of its first voxel, whole numbers.
    offset : array
        How far behind its voxels the place lies that it has to show, in voxels, in [-0.5, 0.5).
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
    return Window(start.astype(int), np.where(axes, first - start, 0.0))


class BetweenVoxels:
    """A view of an image, (channels, *spatial), whose voxels lie between those of the image.

    It is read by slices, as images are where patches are cropped; only what is needed is read of the image. A constant
    stays exactly what it is.

    Parameters
    ----------
    image : array or Tensor
        What can be read by slices.
    offset : sequence of float
        Along each spatial axis, how far behind a voxel of the image the one lies that takes its place, in (-1, 1).
        Beyond its ends, the image goes on as it ends.
    """

    def __init__(self, image: Any, offset: Sequence[float]) -> None:
        self.image, self.offset = image, [float(share) for share in offset]
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, len(image.shape)

    def __getitem__(self, item: tuple[slice, ...]) -> Any:
        """Read a region of some channels, given by a slice for each axis."""
        here = [np.arange(extent)[place] for place, extent in zip(item[1:], self.shape[1:], strict=True)]
        there = [
            np.clip(voxels + int(np.sign(share)), 0, extent - 1)
            for voxels, share, extent in zip(here, self.offset, self.shape[1:], strict=True)
        ]
        both = np.array([[(pair[0], pair[-1]) for pair in ends] for ends in (here, there)])
        first, last = both[..., 0].min(0), both[..., 1].max(0)
        region = self.image[(item[0], *(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)))]
        return self._between(region, *([p - f for p, f in zip(ends, first, strict=True)] for ends in (here, there)))

    def _between(self, region: Any, here: Sequence[np.ndarray], there: Sequence[np.ndarray]) -> Any:
        """Return what lies between the voxels of a region at some places along each axis, and those next to them."""
        for axis, share in enumerate(self.offset):
            if share:
                before = (slice(None),) * (axis + 1)
                one, other = (region[(*before, places[axis])] for places in (here, there))
                region = one + abs(share) * (other - one)
        return region


class LabelsBetweenVoxels(BetweenVoxels):
    """The same of an array of labels: between voxels lies the label that most of what is interpolated has.

    Where several have as much, and the nearest voxel's is among them, it is that one.
    """

    def _between(self, region: np.ndarray, here: Sequence[np.ndarray], there: Sequence[np.ndarray]) -> np.ndarray:
        corners, shares = [], []
        for others in itertools.product(*((False, True) if share else (False,) for share in self.offset)):
            places = np.ix_(*(two if other else one for one, two, other in zip(here, there, others, strict=True)))
            corners.append(region[(slice(None), *places)])
            shares.append(
                np.prod([abs(f) if other else 1 - abs(f) for f, other in zip(self.offset, others, strict=True)])
            )
        labels = np.stack(corners)
        is_mixed = (labels != labels[0]).any(0)
        mixed, result = labels[:, is_mixed], corners[0]
        votes = np.stack([np.tensordot(shares, mixed == one, 1) for one in mixed])
        votes[0] += TIE
        result[is_mixed] = np.take_along_axis(mixed, votes.argmax(0)[None], 0)[0]
        return result
