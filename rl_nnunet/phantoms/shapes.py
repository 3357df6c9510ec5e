"""The implicit shapes that anatomy is made of: superellipsoids, and tubes along splines.

Each shape answers for flat coordinate arrays with the points near it and their approximate signed distance in mm
(negative inside). Only the points near a shape are looked at: most of a volume is far from most shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plane:
    """A half-space: the side of `point` that `normal` points to (both (x, y, z); mm)."""

    point: np.ndarray
    normal: np.ndarray

    def outside(self, points: Points) -> np.ndarray:
        """Return the distance in mm by which points lie on the wrong side; negative on the right side."""
        # Written out instead of a matrix product: a threaded BLAS need not give the same bits every time.
        n, p = self.normal.astype(np.float32), self.point.astype(np.float32)
        return -(n[0] * (points[0] - p[0]) + n[1] * (points[1] - p[1]) + n[2] * (points[2] - p[2]))


@dataclass(frozen=True)
class Ellipsoid:
    """A superellipsoid, cut off by half-spaces.

    Parameters
    ----------
    center : array of shape (3,)
        (x, y, z) in mm.
    axes : array of shape (3, 3)
        One unit vector a row.
    radii : array of shape (3,)
        Semi-axes in mm.
    exponent : float
        2 is an ellipsoid; above, the shape gets boxier.
    clips : tuple of Plane
        The half-spaces that it is cut to.
    """

    center: np.ndarray
    axes: np.ndarray
    radii: np.ndarray
    exponent: float = 2.0
    clips: tuple[Plane, ...] = ()

    def near(self, points: Points, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the points within about `margin` mm, and their signed distances in mm."""
        # The box around a unit ball of the p-norm under a linear map follows from the dual norm.
        dual = self.exponent / (self.exponent - 1)
        reach = margin + (np.abs(self.axes * self.radii[:, None]) ** dual).sum(axis=0) ** (1 / dual)
        index = _inside_box(points, self.center - reach, self.center + reach)
        local = tuple(axis[index] for axis in points)
        power = np.zeros(len(index), dtype=np.float32)
        for axis, radius in zip(self.axes, self.radii, strict=True):
            along = np.abs(Plane(self.center, axis).outside(local)) / np.float32(radius)
            power += along**2 if self.exponent == 2 else along ** np.float32(self.exponent)
        radial = power ** np.float32(1 / self.exponent)
        distance = (radial - 1) * np.float32(np.mean(self.radii))
        return index, _cut(distance, local, self.clips)


@dataclass(frozen=True)
class Tube:
    """A round tube of varying radius along a polyline, cut off by half-spaces.

    Parameters
    ----------
    points : array of shape (n, 3)
        Centerline, (x, y, z) in mm.
    radii : array of shape (n,)
        Radius in mm at every point.
    clips : tuple of Plane
        The half-spaces that it is cut to.
    """

    points: np.ndarray
    radii: np.ndarray
    clips: tuple[Plane, ...] = ()

    def near(self, points: Points, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the points within about `margin` mm, and their signed distances in mm."""
        reach = self.radii[:, None] + margin
        index = _inside_box(points, (self.points - reach).min(0), (self.points + reach).max(0))
        local = tuple(axis[index] for axis in points)
        distance = np.full(len(index), np.inf, dtype=np.float32)
        centerline = self.points.astype(np.float32)
        radii = self.radii.astype(np.float32)
        for i in range(len(centerline) - 1):
            segment = centerline[i + 1] - centerline[i]
            offset = [axis - start for axis, start in zip(local, centerline[i], strict=True)]
            along = (offset[0] * segment[0] + offset[1] * segment[1] + offset[2] * segment[2]) / (
                segment[0] ** 2 + segment[1] ** 2 + segment[2] ** 2
            )
            np.clip(along, 0, 1, out=along)
            square = sum((o - along * s) ** 2 for o, s in zip(offset, segment, strict=True))
            np.minimum(distance, np.sqrt(square) - (radii[i] + along * (radii[i + 1] - radii[i])), out=distance)
        return index, _cut(distance, local, self.clips)


def spline_tube(controls: np.ndarray, radii: np.ndarray, samples: int = 4, clips: tuple[Plane, ...] = ()) -> Tube:
    """Return the tube along the Catmull-Rom spline through control points.

    Parameters
    ----------
    controls : array of shape (n, 3)
        Points that the centerline passes through, (x, y, z) in mm.
    radii : array of shape (n,)
        Radius in mm at every control point.
    samples : int
        Straight pieces between two control points.
    clips : tuple of Plane
        The half-spaces that it is cut to.
    """
    knots = np.column_stack([controls, radii])
    spline = CubicHermiteSpline(np.arange(len(knots)), knots, np.gradient(knots, axis=0))
    curve = spline(np.linspace(0, len(knots) - 1, samples * (len(knots) - 1) + 1))
    return Tube(curve[:, :3], curve[:, 3], clips)


def _inside_box(points: Points, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    inside = np.ones(len(points[0]), dtype=bool)
    for axis, lower, upper in zip(points, low, high, strict=True):
        inside &= (axis > np.float32(lower)) & (axis < np.float32(upper))
    return np.flatnonzero(inside)


def _cut(distance: np.ndarray, points: Points, clips: tuple[Plane, ...]) -> np.ndarray:
    # Infinite rather than the distance to the cut: a cut is a valve, and must not get a wall.
    for plane in clips:
        distance[plane.outside(points) > 0] = np.inf
    return distance
