"""Draws a head on a grid: every voxel gets the tissue at its center."""

from __future__ import annotations

import numpy as np

from rl_nnunet.phantoms.geometry import Grid
from rl_nnunet.phantoms.head.anatomy import HeadShape
from rl_nnunet.phantoms.head.tissues import HeadTissue
from rl_nnunet.phantoms.head.tumor import draw_tumor
from rl_nnunet.phantoms.shapes import Ellipsoid, Points, Tube

# Thickness of the cortex in mm. It follows sulci inward: sheets where a ripple crosses zero, so many mm deep. Up to the
# first value of the ripple on either side of zero they are CSF, up to the second one cortex.
CORTEX_MM, SULCUS_MM, SULCUS_CSF, SULCUS_CORTEX = 3.5, 15.0, 0.12, 0.6
# Half the width and the depth in mm of the fissure between the hemispheres, and how far down (z) it reaches.
FISSURE_MM, FISSURE_DEPTH_MM, FISSURE_BOTTOM_MM = 1.5, 26.0, 20.0


def render_head(head: HeadShape, grid: Grid) -> np.ndarray:
    """Return the tissue map of a head.

    Parameters
    ----------
    head : HeadShape
        The anatomy, see `rl_nnunet.phantoms.head.anatomy.sample_head`.
    grid : Grid
        Where to sample it.

    Returns
    -------
    numpy.ndarray
        Shape (z, y, x), uint8, values of `HeadTissue`.
    """
    tissues = np.zeros(grid.shape, dtype=np.uint8)
    for slices, points in grid.slabs():
        points = head.to_template(points)
        depth = _depth(points, head.brain)
        inside = np.flatnonzero(depth > 0)
        points = tuple(axis[inside] for axis in points)
        brain = _draw_brain(points, depth[inside], head)
        draw_tumor(brain, points, head.tumor)
        slab = tissues[slices].reshape(-1)
        slab[inside] = brain
    return tissues


def _depth(points: Points, brain: tuple[Ellipsoid | Tube, ...]) -> np.ndarray:
    """Return how many mm below the surface of the brain points lie; negative outside."""
    depth = np.full(len(points[0]), -1, dtype=np.float32)
    for shape in brain:
        index, distance = shape.near(points, 0)
        depth[index] = np.maximum(depth[index], -distance)
    return depth


def _draw_brain(points: Points, depth: np.ndarray, head: HeadShape) -> np.ndarray:
    """Return the tissues of a brain without a tumor, flat."""
    tissues = np.full(len(depth), HeadTissue.WHITE_MATTER, dtype=np.uint8)
    _draw(tissues, points, head.hyperintensities, HeadTissue.HYPERINTENSITY)
    _draw_cortex(tissues, points, depth, head.folds(points))
    _draw(tissues, points, head.deep_gray, HeadTissue.DEEP_GRAY)
    _draw(tissues, points, head.ventricles, HeadTissue.CSF)
    _draw(tissues, points, head.vessels, HeadTissue.VESSEL)
    return tissues


def _draw_cortex(tissues: np.ndarray, points: Points, depth: np.ndarray, folds: np.ndarray) -> None:
    away = np.abs(folds)
    tissues[(depth < CORTEX_MM) | (depth < SULCUS_MM) & (away < SULCUS_CORTEX)] = HeadTissue.GRAY_MATTER
    tissues[(depth < SULCUS_MM - CORTEX_MM) & (away < SULCUS_CSF)] = HeadTissue.CSF
    x, _, z = points
    near_midline = (np.abs(x) < FISSURE_MM + CORTEX_MM) & (depth < FISSURE_DEPTH_MM) & (z > FISSURE_BOTTOM_MM)
    tissues[near_midline] = np.where(np.abs(x[near_midline]) < FISSURE_MM, HeadTissue.CSF, HeadTissue.GRAY_MATTER)


def _draw(tissues: np.ndarray, points: Points, shapes: tuple[Ellipsoid | Tube, ...], tissue: HeadTissue) -> None:
    for shape in shapes:
        index, distance = shape.near(points, 0)
        tissues[index[distance < 0]] = tissue
