"""Draws a heart and its chest on a grid: every voxel gets the tissue at its center."""

from __future__ import annotations

import numpy as np

from rl_nnunet.phantoms.geometry import Grid
from rl_nnunet.phantoms.heart.anatomy import Body, HeartShape, Part
from rl_nnunet.phantoms.heart.tissues import HeartTissue
from rl_nnunet.phantoms.shapes import Points


def render_heart(heart: HeartShape, grid: Grid) -> np.ndarray:
    """Return the tissue map of a heart.

    Parameters
    ----------
    heart : HeartShape
        The anatomy, see `rl_nnunet.phantoms.heart.anatomy.sample_heart`.
    grid : Grid
        Where to sample it.

    Returns
    -------
    numpy.ndarray
        Shape (z, y, x), uint8, values of `HeartTissue`.
    """
    tissues = np.empty(grid.shape, dtype=np.uint8)
    for slices, points in grid.slabs():
        points = heart.warp(points)
        slab = _draw_body(points, heart.body)
        _draw_heart(slab, points, heart.parts, heart.body.pericardial_fat_mm)
        tissues[slices] = slab.reshape(tissues[slices].shape)
    return tissues


def _draw_heart(slab: np.ndarray, points: Points, parts: tuple[Part, ...], fat_mm: float) -> None:
    nearby = [[shape.near(points, fat_mm if part.in_fat else part.wall) for shape in part.shapes] for part in parts]
    for part, shapes in zip(parts, nearby, strict=True):
        for index, distance in shapes if part.in_fat else ():
            around = index[distance < fat_mm]
            slab[around[slab[around] == HeartTissue.LUNG]] = HeartTissue.FAT
    for part, shapes in zip(parts, nearby, strict=True):
        # All walls of a part before its insides: its shapes are one cavity, with no walls between them.
        for index, distance in shapes:
            slab[index[distance < part.wall]] = HeartTissue.MUSCLE
        for index, distance in shapes:
            slab[index[distance < 0]] = part.tissue


def _draw_body(points: Points, body: Body) -> np.ndarray:
    """Return the tissues of a chest without a heart, flat."""
    x, y, z = points[0] / body.scale, 12 + (points[1] - 12) / body.depth_scale, points[2]
    radius = (np.abs(x / 145) ** 2.5 + np.abs((y - 14) / 106) ** 2.5) ** 0.4
    tissues = np.full(len(x), HeartTissue.AIR, dtype=np.uint8)
    tissues[radius < 1] = HeartTissue.FAT
    tissues[radius < 1 - body.fat] = HeartTissue.MUSCLE
    inside = radius < 1 - body.wall
    tissues[inside] = HeartTissue.LUNG
    mediastinum = _oval(x, y, (4, 45), (30, 52)) | _oval(x, y, (2, -62), (20, 40))
    tissues[inside & mediastinum] = HeartTissue.FAT
    _draw_abdomen(tissues, inside, (x, y, z - body.diaphragm_mm))
    _draw_bones(tissues, radius, (x, y, z), body)
    return tissues


def _draw_abdomen(tissues: np.ndarray, inside: np.ndarray, points: Points) -> None:
    x, y, z = points
    tissues[inside & (z < -88 + 14 * np.cos(x / 60))] = HeartTissue.FAT
    spleen = _ball(points, (75, 25, -120), (62, 62, 64))
    tissues[inside & spleen] = HeartTissue.SPLEEN
    tissues[inside & _ball(points, (58, -22, -92), (30, 24, 16))] = HeartTissue.AIR
    tissues[inside & _ball(points, (-55, 0, -118), (105, 88, 70))] = HeartTissue.LIVER


def _draw_bones(tissues: np.ndarray, radius: np.ndarray, points: Points, body: Body) -> None:
    x, y, z = points
    middle = 1 - (body.fat + body.wall) / 2
    # Ribs descend from the spine to the front.
    ribs = np.cos((z - body.rib_phase + 0.35 * (50 - y)) * (2 * np.pi / 24)) > 0.3
    tissues[(np.abs(radius - middle) < 0.03) & ribs & (np.abs(x) > 22)] = HeartTissue.BONE
    in_wall = (radius > 1 - body.wall - 0.01) & (radius < 1 - body.fat)
    tissues[in_wall & (np.abs(x) < 16) & (y < 0) & (z > -50)] = HeartTissue.BONE
    tissues[_oval(x, y, (0, 98), (46, 20)) & (radius < 1 - body.fat)] = HeartTissue.MUSCLE
    disks = np.mod(z - body.disk_phase, 28) < 6
    vertebra = _oval(x, y, (0, 84), (20, 17))
    tissues[vertebra] = np.where(disks[vertebra], HeartTissue.MUSCLE, HeartTissue.BONE)
    arch = (_oval(x, y, (0, 107), (14, 11)) | (np.abs(x) < 4) & (y > 107) & (y < 120)) & ~disks
    tissues[arch & ~vertebra & (radius < 1)] = HeartTissue.BONE
    tissues[_oval(x, y, (0, 107), (9, 7))] = HeartTissue.SPINAL_CANAL


def _ball(points: Points, center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(points, center, radii, strict=True)) < 1


def _oval(x: np.ndarray, y: np.ndarray, center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    return ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 < 1
