"""The tumor of the phantom head: nested parts with irregular boundaries, in the coordinates of the template."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rl_nnunet.phantoms.geometry import random_small_rotation
from rl_nnunet.phantoms.head.config import Grade, HeadPhantomConfig
from rl_nnunet.phantoms.head.tissues import HeadTissue
from rl_nnunet.phantoms.shapes import Ellipsoid, Points
from rl_nnunet.phantoms.waves import Ripple, sample_ripple

# How irregular the boundaries are: SD relative to the radius, to the width of the edema, to the thickness of the rim.
CORE_RIPPLE, EDEMA_RIPPLE, RIM_RIPPLE = 0.09, 0.35, 0.25
# The narrowest that the ripple leaves of the edema and of the rim, and the widest that it makes them.
NARROWEST, WIDEST = 0.5, 1.8
# The edema follows the white matter; it reaches less far into the gray.
EDEMA_IN_GRAY = 0.4
# Middle and semi-axes (mm) of the cerebrum that a tumor must stay inside of.
CEREBRUM_CENTER, CEREBRUM_RADII = np.array([0.0, 0.0, 8.0]), np.array([67.0, 84.0, 58.0])


@dataclass(frozen=True)
class Tumor:
    """One glioma.

    Parameters
    ----------
    core : Ellipsoid
        The tumor core, before its boundary is made irregular.
    rim_mm : float
        Thickness of the enhancing rim; 0 if there is none.
    edema_mm : float
        Mean width of the edema around the core.
    patch : Ellipsoid or None
        An enhancing patch in a core without rim.
    cavity : Ellipsoid or None
        What surgery left behind.
    ripples : tuple of Ripple
        Those of the boundary of the core, of the edema and of the rim.
    """

    core: Ellipsoid
    rim_mm: float
    edema_mm: float
    patch: Ellipsoid | None
    cavity: Ellipsoid | None
    ripples: tuple[Ripple, Ripple, Ripple]


def sample_tumor(rng: np.random.Generator, config: HeadPhantomConfig, grade: Grade, treated: bool) -> Tumor:
    """Draw a tumor somewhere in the cerebrum.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    config : HeadPhantomConfig
        Its ranges of sizes and its shares are used.
    grade : {"HGG", "LGG"}
        A high-grade glioma has a necrotic core inside an enhancing rim; a low-grade one a solid core.
    treated : bool
        Less tumor, and maybe a resection cavity beside it.
    """
    radius = rng.uniform(*(config.residual_core_mm if treated else config.core_mm))
    core = _blob(rng, _sample_center(rng, radius + 5), radius)
    patch = cavity = None
    rim_mm, edema_range = 0.0, config.lgg_edema_mm
    if grade == "HGG":
        rim_mm, edema_range = radius * rng.uniform(0.28, 0.4), config.edema_mm
    elif rng.random() < config.lgg_enhancing_share:
        patch = _blob(rng, core.center + 0.35 * radius * _direction(rng), 0.4 * radius)
    if treated and rng.random() < config.cavity_share:
        cavity_radius = rng.uniform(*config.cavity_mm)
        # It cuts into the core, from the surface, where the surgeon came from.
        toward_surface = _unit((core.center - CEREBRUM_CENTER) / CEREBRUM_RADII + 0.3 * _direction(rng))
        cavity = _blob(rng, core.center + (radius + 0.4 * cavity_radius) * toward_surface, cavity_radius)
    ripples = tuple(sample_ripple(rng, wavelengths) for wavelengths in ((25, 60), (20, 50), (12, 30)))
    return Tumor(core, rim_mm, rng.uniform(*edema_range), patch, cavity, ripples)


def follow_up(tumor: Tumor, rng: np.random.Generator) -> Tumor:
    """Return a tumor at the next time point: grown or shrunken, in the same place, the cavity as it was."""
    growth = rng.uniform(0.75, 1.3)
    return replace(
        tumor,
        core=replace(tumor.core, radii=tumor.core.radii * growth),
        rim_mm=tumor.rim_mm * growth,
        edema_mm=tumor.edema_mm * rng.uniform(0.7, 1.3),
    )


def draw_tumor(tissues: np.ndarray, points: Points, tumor: Tumor) -> None:
    """Draw a tumor over the tissues of the brain.

    Parameters
    ----------
    tissues : numpy.ndarray
        Flat, values of `HeadTissue`, none of them outside; changed in place.
    points : tuple of numpy.ndarray
        x, y and z in mm of its voxels in the template.
    tumor : Tumor
        What to draw.
    """
    reach = WIDEST * tumor.edema_mm + 3 * CORE_RIPPLE * float(tumor.core.radii.max())
    index, distance = tumor.core.near(points, reach)
    local = tuple(axis[index] for axis in points)
    core_ripple, edema_ripple, rim_ripple = (ripple(local) for ripple in tumor.ripples)
    distance -= CORE_RIPPLE * float(tumor.core.radii.mean()) * np.clip(core_ripple, -2.5, 2.5)
    _draw_edema(tissues, index, distance, tumor.edema_mm * _width(EDEMA_RIPPLE, edema_ripple))
    inside = distance < 0
    if tumor.rim_mm:
        necrotic = distance < -tumor.rim_mm * _width(RIM_RIPPLE, rim_ripple)
        tissues[index[inside]] = HeadTissue.ENHANCING
        tissues[index[necrotic]] = HeadTissue.NECROSIS
    else:
        tissues[index[inside]] = HeadTissue.SOLID_CORE
    if tumor.patch is not None:
        patch, patch_distance = tumor.patch.near(points, 0)
        patch = patch[patch_distance < 0]
        tissues[patch[tissues[patch] == HeadTissue.SOLID_CORE]] = HeadTissue.ENHANCING
    if tumor.cavity is not None:
        cavity, cavity_distance = tumor.cavity.near(points, 0)
        tissues[cavity[cavity_distance < 0]] = HeadTissue.CAVITY


def _draw_edema(tissues: np.ndarray, index: np.ndarray, distance: np.ndarray, width: np.ndarray) -> None:
    before = tissues[index]
    white = (before == HeadTissue.WHITE_MATTER) | (before == HeadTissue.HYPERINTENSITY)
    gray = (before == HeadTissue.GRAY_MATTER) | (before == HeadTissue.DEEP_GRAY)
    swollen = white & (distance < width) | gray & (distance < np.float32(EDEMA_IN_GRAY) * width)
    tissues[index[swollen]] = HeadTissue.EDEMA


def _width(sd: float, ripple: np.ndarray) -> np.ndarray:
    return np.clip(1 + np.float32(sd) * ripple, np.float32(NARROWEST), np.float32(WIDEST))


def _sample_center(rng: np.random.Generator, margin_mm: float) -> np.ndarray:
    """Return a point in either hemisphere at least about `margin_mm` below the surface of the cerebrum."""
    center = np.array([rng.choice((-1, 1)) * rng.uniform(22, 45), rng.uniform(-50, 50), rng.uniform(-2, 38)])
    relative = (center - CEREBRUM_CENTER) / CEREBRUM_RADII
    limit = 1 - margin_mm / CEREBRUM_RADII.min()
    relative *= min(1.0, limit / float(np.sqrt((relative**2).sum())))
    return CEREBRUM_CENTER + relative * CEREBRUM_RADII


def _blob(rng: np.random.Generator, center: np.ndarray, radius: float) -> Ellipsoid:
    radii = radius * rng.uniform(0.88, 1.12, size=3)
    return Ellipsoid(center, random_small_rotation(rng, 90), radii)


def _direction(rng: np.random.Generator) -> np.ndarray:
    return _unit(rng.normal(size=3))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt((vector**2).sum())
