"""The anatomy of the phantom head: a template of a skull-stripped brain, varied from patient to patient.

Template coordinates are (x, y, z) in mm of the patient (LPS: toward left, posterior, superior), with the origin in the
middle of the brain. Paired structures are listed for the left side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rl_nnunet.phantoms.geometry import random_small_rotation
from rl_nnunet.phantoms.head.config import Grade, HeadPhantomConfig
from rl_nnunet.phantoms.head.tumor import CEREBRUM_CENTER, CEREBRUM_RADII, Tumor, sample_tumor
from rl_nnunet.phantoms.shapes import Ellipsoid, Points, Tube, spline_tube
from rl_nnunet.phantoms.waves import Ripple, Warp, sample_ripple, sample_warp

# Rows of center x, y, z and semi-axes along x, y, z; both sides where the center is off the midline.
CEREBRUM = (*CEREBRUM_CENTER, *CEREBRUM_RADII)
TEMPORAL_LOBE = (39, -12, -27, 27, 42, 23)
CEREBELLUM = (0, 46, -42, 51, 36, 28)
DEEP_GRAY = (
    (12, 12, 4, 9, 15, 9),
    (27, -4, 2, 7, 19, 12),
    (13, -24, 10, 5, 11, 8),
)
# Rows of x, y, z, radius.
BRAINSTEM = ((0, 12, -22, 15), (0, 16, -40, 15), (0, 22, -60, 10), (0, 26, -85, 8))
LATERAL_VENTRICLE = ((9, -36, 8, 4.5), (8, -18, 17, 5), (11, 8, 21, 4.5), (23, 30, 14, 6.5), (31, 12, -10, 3.5))
MIDLINE_VENTRICLES = ((0, 6, 3, 2.6, 14, 10), (0, 32, -38, 7, 6, 8))
SAGITTAL_SINUS = ((0, -66, 36, 2), (0, -30, 61, 2.5), (0, 20, 63, 3), (0, 62, 42, 3.5), (0, 80, 8, 4))
MIDDLE_CEREBRAL_ARTERY = ((4, -14, -26, 2.2), (24, -14, -20, 2.2), (43, -8, -8, 2), (52, 12, 8, 1.6))
CHOROID_PLEXUS = (21, 27, 14, 3, 7, 4)


@dataclass(frozen=True)
class HeadShape:
    """One brain with its tumor, in continuous space: it can be rendered on any grid.

    Parameters
    ----------
    rotation : array of shape (3, 3)
        The pose.
    scale, shift : array of shape (3,)
        Size relative to the template, and position in mm of its origin, along (x, y, z).
    warp : Warp
        The deformation of all of it.
    brain, deep_gray, ventricles, vessels, hyperintensities : tuple of Ellipsoid or Tube
        Its structures in template coordinates.
    folds : Ripple
        Where the cortex folds inward.
    tumor : Tumor
        In template coordinates, too.
    """

    rotation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    warp: Warp
    brain: tuple[Ellipsoid | Tube, ...]
    deep_gray: tuple[Ellipsoid, ...]
    ventricles: tuple[Ellipsoid | Tube, ...]
    vessels: tuple[Ellipsoid | Tube, ...]
    hyperintensities: tuple[Ellipsoid, ...]
    folds: Ripple
    tumor: Tumor

    def to_template(self, points: Points) -> Points:
        """Return where in the template points (x, y, z; mm) of the patient lie."""
        shifted = [axis - np.float32(s) for axis, s in zip(points, self.shift, strict=True)]
        # Written out instead of a matrix product: a threaded BLAS need not give the same bits every time.
        turned = (
            sum(np.float32(r) * axis for r, axis in zip(column, shifted, strict=True)) / np.float32(s)
            for column, s in zip(self.rotation.T, self.scale, strict=True)
        )
        return self.warp(tuple(turned))


def sample_head(
    rng: np.random.Generator,
    config: HeadPhantomConfig | None = None,
    grade: Grade = "HGG",
    treated: bool = False,
) -> HeadShape:
    """Draw a patient: pose, size, deformation, the width of the ventricles, vessels, old lesions, and the tumor.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same head.
    config : HeadPhantomConfig, optional
        How much heads vary.
    grade, treated
        See `rl_nnunet.phantoms.head.tumor.sample_tumor`.
    """
    config = config or HeadPhantomConfig()
    return HeadShape(
        rotation=random_small_rotation(rng, config.max_rotation_deg),
        scale=rng.uniform(*config.scale_range) * rng.uniform(0.97, 1.03, size=3),
        shift=rng.uniform(-config.max_shift_mm, config.max_shift_mm, size=3),
        warp=sample_warp(rng, config.deformation_mm),
        brain=_brain(rng),
        deep_gray=tuple(shape for row in DEEP_GRAY for shape in _both_sides(rng, row)),
        ventricles=_ventricles(rng, rng.uniform(*config.ventricle_range)),
        vessels=_vessels(rng),
        hyperintensities=_hyperintensities(rng),
        folds=sample_ripple(rng, (13, 30), waves=10),
        tumor=sample_tumor(rng, config, grade, treated),
    )


def _brain(rng: np.random.Generator) -> tuple[Ellipsoid | Tube, ...]:
    cerebrum = replace(_ellipsoid(rng, CEREBRUM), exponent=2.2)
    return cerebrum, *_both_sides(rng, TEMPORAL_LOBE), _ellipsoid(rng, CEREBELLUM), _tube(rng, BRAINSTEM)


def _ventricles(rng: np.random.Generator, width: float) -> tuple[Ellipsoid | Tube, ...]:
    lateral = [_tube(rng, LATERAL_VENTRICLE, side) for side in (1, -1)]
    middle = [_ellipsoid(rng, row) for row in MIDLINE_VENTRICLES]
    return (
        *(replace(tube, radii=tube.radii * width) for tube in lateral),
        *(replace(ellipsoid, radii=ellipsoid.radii * np.array([width, 1, 1])) for ellipsoid in middle),
    )


def _vessels(rng: np.random.Generator) -> tuple[Ellipsoid | Tube, ...]:
    """Return what takes up contrast medium without being tumor, veins that cross the white matter included."""
    veins = []
    for _ in range(rng.integers(2, 6)):
        side = rng.choice((-1, 1))
        outer = np.array([side * rng.uniform(30, 50), rng.uniform(-45, 45), rng.uniform(25, 42)])
        inner = outer * rng.uniform(0.35, 0.6)
        radius = rng.uniform(1.2, 2.2)
        veins.append(_tube(rng, ((*outer, radius), (*((outer + inner) / 2), radius), (*inner, radius)), jitter=4))
    arteries = [_tube(rng, MIDDLE_CEREBRAL_ARTERY, side) for side in (1, -1)]
    return _tube(rng, SAGITTAL_SINUS), *arteries, *veins, *_both_sides(rng, CHOROID_PLEXUS)


def _hyperintensities(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Return the small lesions of an aging white matter, around the ventricles for the most part."""
    lesions = []
    for _ in range(rng.integers(3, 11)):
        center = np.array([rng.choice((-1, 1)) * rng.uniform(16, 34), rng.uniform(-42, 42), rng.uniform(10, 34)])
        lesions.append(Ellipsoid(center, random_small_rotation(rng, 90), rng.uniform(1.5, 4.5, size=3)))
    return tuple(lesions)


def _both_sides(rng: np.random.Generator, row: tuple[float, ...]) -> tuple[Ellipsoid, Ellipsoid]:
    return _ellipsoid(rng, row), _ellipsoid(rng, (-row[0], *row[1:]))


def _ellipsoid(rng: np.random.Generator, row: tuple[float, ...]) -> Ellipsoid:
    """Return an upright ellipsoid of the template, with jitter of its own."""
    center, radii = np.array(row[:3], dtype=float), np.array(row[3:], dtype=float)
    center[1:] += rng.uniform(-1.5, 1.5, size=2)
    return Ellipsoid(center, np.eye(3), radii * rng.uniform(0.95, 1.05, size=3))


def _tube(rng: np.random.Generator, rows: tuple, side: int = 1, jitter: float = 1.5) -> Tube:
    """Return a tube of the template on either side, with jitter of its own."""
    rows = np.asarray(rows, dtype=float)
    points = rows[:, :3] * np.array([side, 1, 1]) + rng.uniform(-jitter, jitter, size=(len(rows), 3))
    return spline_tube(points, rows[:, 3] * rng.uniform(0.9, 1.1), 3)
