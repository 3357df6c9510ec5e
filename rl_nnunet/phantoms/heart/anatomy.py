"""The anatomy of the phantom heart: a template of chambers and vessels, varied from case to case.

Template coordinates are (x, y, z) in mm of the patient (LPS: toward left, posterior, superior), with the origin in the
middle of the left ventricle's base. Chambers are easier to place in the heart's own frame: `TOWARD_RV` from the
left ventricle through the septum, `TOWARD_TOP` roughly superior, `TOWARD_APEX` along the long axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_nnunet.phantoms.geometry import random_small_rotation
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.tissues import HeartTissue
from rl_nnunet.phantoms.shapes import Ellipsoid, Plane, Tube, spline_tube
from rl_nnunet.phantoms.waves import Warp, sample_warp

TOWARD_APEX = np.array([0.65, -0.60, -0.47]) / np.linalg.norm([0.65, -0.60, -0.47])
_rightward = np.array([-0.8, -0.6, -0.1])
TOWARD_RV = _rightward - (_rightward @ TOWARD_APEX) * TOWARD_APEX
TOWARD_RV /= np.linalg.norm(TOWARD_RV)
TOWARD_TOP = np.cross(TOWARD_RV, TOWARD_APEX)
HEART_AXES = np.stack([TOWARD_RV, TOWARD_TOP, TOWARD_APEX])

# The heart turns about this point of the template.
PIVOT = np.array([0.0, -10.0, 5.0])

# Vessels: rows of x, y, z, radius in mm, and how far the point follows the heart when that moves (1 fully, 0 stays
# with the body). The first rows of the aorta are in the ventricle, so that its valve is a full disk.
AORTA = (
    (0, -13, 0, 12.5, 1),
    (-6.5, -7.5, 4.5, 13, 1),
    (-11, -9, 18, 15.5, 1),
    (-16, -11, 38, 14, 1),
    (-15, -10, 60, 14, 0.9),
    (-8, -2, 78, 13.5, 0.75),
    (6, 18, 86, 12.5, 0.5),
    (18, 40, 76, 12, 0.3),
    (23, 56, 50, 11.5, 0.15),
    (22, 58, 0, 11, 0.1),
    (16, 60, -60, 10.5, 0),
    (12, 60, -120, 10, 0),
)
END_OF_ASCENDING_AORTA = 5
OUTFLOW_TRACT = ((-4, -31, -4, 16, 1), (2, -38, 13, 14, 1), (8, -39, 27, 12.5, 1), (10, -37, 36, 12, 1))
PULMONARY_TRUNK = (
    (6, -39, 24, 11.5, 1),
    (10, -38, 33, 12, 1),
    (14, -28, 45, 12.5, 1),
    (16, -12, 53, 12, 1),
    (13, 4, 58, 11, 0.9),
)
RIGHT_PULMONARY_ARTERY = (
    (13, 4, 58, 10, 0.9),
    (0, 13, 57, 10, 0.8),
    (-18, 18, 54, 9.5, 0.7),
    (-36, 21, 51, 9, 0.6),
    (-55, 24, 46, 7, 0.4),
    (-72, 28, 34, 5, 0.2),
)
END_OF_RIGHT_PULMONARY_ARTERY = 3
LEFT_PULMONARY_ARTERY = (
    (13, 4, 58, 10, 0.9),
    (24, 16, 60, 9.5, 0.8),
    (36, 27, 57, 8.5, 0.7),
    (50, 36, 50, 6.5, 0.4),
    (64, 42, 36, 5, 0.2),
)
END_OF_LEFT_PULMONARY_ARTERY = 2
SYSTEMIC_VEINS = (
    ((-44, 2, 10, 9.5, 1), (-44, 2, 40, 9, 0.9), (-40, 4, 70, 9, 0.5), (-34, 4, 110, 8.5, 0.1)),
    ((-44, 8, -12, 12, 1), (-42, 14, -34, 11.5, 0.8), (-38, 20, -60, 11, 0.4), (-36, 24, -110, 10.5, 0)),
)
PULMONARY_VEINS = (
    ((-8, 24, 22, 8, 1), (-30, 28, 30, 7, 1), (-50, 32, 36, 6, 0.7), (-70, 30, 45, 4.5, 0.3)),
    ((-8, 26, 18, 8, 1), (-30, 33, 12, 7, 1), (-50, 41, 4, 6, 0.7), (-66, 48, -8, 4.5, 0.3)),
    ((-4, 26, 24, 8, 1), (14, 28, 32, 7, 1), (34, 32, 38, 6, 0.7), (54, 30, 48, 4.5, 0.3)),
    ((-4, 28, 18, 8, 1), (14, 34, 14, 6.5, 1), (32, 44, 6, 6, 0.7), (50, 52, -6, 4.5, 0.3)),
)
LEFT_ATRIAL_APPENDAGE = ((8, 16, 26, 9, 1), (22, 4, 30, 8, 1), (31, -6, 31, 7, 1), (34, -14, 28, 5, 1))
RIGHT_ATRIAL_APPENDAGE = ((-40, -6, 12, 12, 1), (-35, -21, 23, 9, 1), (-25, -31, 28, 6, 1))
TRACHEA = ((0, 22, 110, 8.5, 0), (-2, 30, 80, 8.5, 0), (-3, 33, 66, 8, 0.3))
BRONCHI = (
    ((-3, 33, 66, 7.5, 0.3), (-26, 38, 54, 6.5, 0.3), (-48, 42, 40, 5, 0.1)),
    ((-3, 33, 66, 7, 0.3), (24, 41, 54, 6, 0.3), (44, 46, 40, 4.5, 0.1)),
)
ESOPHAGUS = ((4, 44, 100, 6, 0), (3, 50, 40, 6, 0), (4, 53, -10, 6, 0.2), (14, 44, -60, 6.5, 0))


@dataclass(frozen=True)
class Part:
    """A structure, drawn as one cavity.

    Parameters
    ----------
    tissue : HeartTissue
        What it consists of.
    shapes : tuple of Ellipsoid or Tube
        The shapes whose union it is.
    wall : float
        Thickness in mm of the muscle around it.
    in_fat : bool
        Whether it lies in the pericardial fat, rather than in the lung.
    """

    tissue: HeartTissue
    shapes: tuple[Ellipsoid | Tube, ...]
    wall: float = 0.0
    in_fat: bool = False


@dataclass(frozen=True)
class Body:
    """The rest of the chest: its size relative to the template, and what varies in it.

    Parameters
    ----------
    scale, depth_scale : float
        Size along x, and along y.
    wall : float
        Share of the body's radius that the chest wall takes.
    fat : float
        Share of the body's radius that the fat under the skin takes.
    diaphragm_mm : float
        Height of the diaphragm relative to the template.
    rib_phase, disk_phase : float
        Where along z (mm) ribs and intervertebral disks lie.
    pericardial_fat_mm : float
        Thickness of the fat around the heart.
    """

    scale: float
    depth_scale: float
    wall: float
    fat: float
    diaphragm_mm: float
    rib_phase: float
    disk_phase: float
    pericardial_fat_mm: float


@dataclass(frozen=True)
class HeartShape:
    """One heart in its chest, in continuous space: it can be rendered on any grid.

    Parameters
    ----------
    parts : tuple of Part
        In the order in which they are drawn; a later one covers an earlier one.
    body : Body
        The chest around the heart.
    warp : Warp
        The deformation of all of it.
    """

    parts: tuple[Part, ...]
    body: Body
    warp: Warp


def sample_heart(rng: np.random.Generator, config: HeartPhantomConfig | None = None) -> HeartShape:
    """Draw a heart: pose, size, every chamber and vessel, the deformation, and the chest.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same heart.
    config : HeartPhantomConfig, optional
        How much hearts vary.
    """
    config = config or HeartPhantomConfig()
    sampler = _Sampler(rng, config)
    parts = (*_great_vessels(sampler), *_chambers(sampler), *_outlets(sampler))
    return HeartShape(parts, _sample_body(rng), sample_warp(rng, config.deformation_mm))


class _Sampler:
    """Places template shapes: a pose that all of a heart share, and jitter of its own for every shape."""

    def __init__(self, rng: np.random.Generator, config: HeartPhantomConfig) -> None:
        self.rng = rng
        self.rotation = random_small_rotation(rng, config.max_rotation_deg)
        self.scale = rng.uniform(*config.scale_range)
        self.shift = rng.uniform(-config.max_shift_mm, config.max_shift_mm, size=3)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return where template points (..., 3) lie in this patient."""
        return PIVOT + self.shift + self.scale * (np.asarray(points) - PIVOT) @ self.rotation.T

    def frame(self, toward_rv: float, toward_top: float, toward_apex: float) -> np.ndarray:
        """Return the template point with these coordinates (mm) in the heart's own frame."""
        return np.array([toward_rv, toward_top, toward_apex]) @ HEART_AXES

    def plane(self, point: np.ndarray, normal: np.ndarray) -> Plane:
        """Return a half-space of the template in this patient."""
        normal = np.asarray(normal, dtype=float)
        return Plane(self.place(point), self.rotation @ (normal / np.linalg.norm(normal)))

    def ellipsoid(
        self,
        center: np.ndarray,
        axes: np.ndarray,
        radii: np.ndarray,
        exponents: tuple[float, float] = (2.0, 2.5),
        clips: tuple[Plane, ...] = (),
    ) -> Ellipsoid:
        """Return a template ellipsoid in this patient, with jitter of its own."""
        center = self.place(np.asarray(center) + self.rng.uniform(-1.5, 1.5, size=3))
        radii = self.scale * np.asarray(radii) * self.rng.uniform(0.93, 1.07, size=3)
        return Ellipsoid(center, axes @ self.rotation.T, radii, self.rng.uniform(*exponents), clips)

    def tube(self, rows: tuple, samples: int = 4, jitter: float = 1.5, clips: tuple[Plane, ...] = ()) -> Tube:
        """Return a vessel of the template (rows of x, y, z, radius, follow) in this patient, with jitter."""
        rows = np.asarray(rows, dtype=float)
        template, radii, follow = rows[:, :3], rows[:, 3], rows[:, 4:]
        points = follow * self.place(template) + (1 - follow) * template
        points = points + self.rng.uniform(-jitter, jitter, size=points.shape)
        radii = radii * self.scale * self.rng.uniform(0.9, 1.1) * self.rng.uniform(0.96, 1.04, size=radii.shape)
        return spline_tube(points, radii, samples, clips)


def _split(tube: Tube, control: int, samples: int) -> tuple[Tube, Tube]:
    cut = control * samples
    return (
        Tube(tube.points[: cut + 1], tube.radii[: cut + 1], tube.clips),
        Tube(tube.points[cut:], tube.radii[cut:]),
    )


def _great_vessels(sampler: _Sampler) -> list[Part]:
    """Return what is as bright as the heart but carries no label, apart from vessels that continue a labeled one."""
    airways = (sampler.tube(TRACHEA, 2), *(sampler.tube(rows, 2) for rows in BRONCHI))
    return [
        Part(HeartTissue.AIR, airways, wall=2.0),
        Part(HeartTissue.MUSCLE, (sampler.tube(ESOPHAGUS, 2),)),
        Part(HeartTissue.SYSTEMIC_VEIN, tuple(sampler.tube(rows, 3) for rows in SYSTEMIC_VEINS), wall=1.0),
        Part(HeartTissue.PULMONARY_VEIN, tuple(sampler.tube(rows, 2) for rows in PULMONARY_VEINS), wall=1.0),
    ]


def _chambers(sampler: _Sampler) -> list[Part]:
    # One plane through the base parts the ventricles from the atria.
    ventricular = (sampler.plane(np.zeros(3), TOWARD_APEX),)
    atrial = (sampler.plane(np.zeros(3), -TOWARD_APEX),)
    frame = sampler.frame
    ra_center, la_center = frame(30, -12, -26), np.array([-8.0, 24.0, 20.0])
    right_ventricle = (
        sampler.ellipsoid(frame(27, -6, 26), HEART_AXES, (32, 39, 50), clips=ventricular),
        sampler.tube(OUTFLOW_TRACT, 3),
    )
    right_atrium = (
        sampler.ellipsoid(ra_center, HEART_AXES, (24, 27, 28), clips=atrial),
        sampler.tube(_funnel(ra_center, frame(31, -10, 2), 15), 1, clips=atrial),
        sampler.tube(RIGHT_ATRIAL_APPENDAGE, 2, clips=atrial),
    )
    left_atrium = (
        sampler.ellipsoid(la_center, np.eye(3), (29, 19, 23), clips=atrial),
        sampler.tube(_funnel(la_center, frame(-10, -4, 4), 14), 1, clips=atrial),
        sampler.tube(LEFT_ATRIAL_APPENDAGE, 2),
    )
    return [
        Part(HeartTissue.RIGHT_VENTRICLE, right_ventricle, 3.0, in_fat=True),
        Part(HeartTissue.RIGHT_ATRIUM, right_atrium, 2.0, in_fat=True),
        Part(HeartTissue.LEFT_ATRIUM, left_atrium, 2.0, in_fat=True),
        *_left_ventricle(sampler, ventricular),
    ]


def _left_ventricle(sampler: _Sampler, clips: tuple[Plane, ...]) -> list[Part]:
    """Return myocardium, blood pool and papillary muscles; the wall has a thickness of its own in every heart."""
    epicardium = sampler.ellipsoid(sampler.frame(0, 0, 22), HEART_AXES, (33, 33, 66), (2.0, 2.2), clips)
    thickness = sampler.scale * sampler.rng.uniform(8.0, 12.0)
    endocardium = Ellipsoid(
        epicardium.center, epicardium.axes, epicardium.radii - thickness, epicardium.exponent, clips
    )
    papillary = []
    for toward_rv, toward_top in ((-13, 9), (-9, -13)):
        root = sampler.frame(1.3 * toward_rv, 1.3 * toward_top, 52)
        tip = sampler.frame(0.7 * toward_rv, 0.7 * toward_top, 26)
        papillary.append(sampler.tube(((*root, 5, 1), (*tip, 3, 1)), 1))
    return [
        Part(HeartTissue.MYOCARDIUM, (epicardium,), in_fat=True),
        Part(HeartTissue.LEFT_VENTRICLE, (endocardium,)),
        Part(HeartTissue.PAPILLARY_MUSCLE, tuple(papillary)),
    ]


def _outlets(sampler: _Sampler) -> list[Part]:
    """Return the two labeled arteries, from their valves on, and the unlabeled vessels that they continue as."""
    aortic_valve = sampler.plane(np.zeros(3), -TOWARD_APEX)
    ascending, arch = _split(sampler.tube(AORTA, 3, clips=(aortic_valve,)), END_OF_ASCENDING_AORTA, 3)
    valve, beyond = np.array(PULMONARY_TRUNK[1][:3]), np.array(PULMONARY_TRUNK[2][:3])
    pulmonary_valve = sampler.plane(valve, beyond - np.array(PULMONARY_TRUNK[0][:3]))
    trunk = sampler.tube(PULMONARY_TRUNK, 3, clips=(pulmonary_valve,))
    right, right_end = _split(sampler.tube(RIGHT_PULMONARY_ARTERY, 2), END_OF_RIGHT_PULMONARY_ARTERY, 2)
    left, left_end = _split(sampler.tube(LEFT_PULMONARY_ARTERY, 2), END_OF_LEFT_PULMONARY_ARTERY, 2)
    return [
        Part(HeartTissue.DISTAL_PULMONARY_ARTERY, (right_end, left_end), wall=1.0),
        Part(HeartTissue.PULMONARY_ARTERY, (trunk, right, left), 1.5, in_fat=True),
        Part(HeartTissue.ARTERY, (arch,), wall=1.5),
        Part(HeartTissue.ASCENDING_AORTA, (ascending,), 1.5, in_fat=True),
    ]


def _funnel(center: np.ndarray, valve: np.ndarray, radius: float) -> tuple:
    """Return the tube through which an atrium reaches its valve."""
    return ((*center, radius + 2, 1), (*valve, radius, 1))


def _sample_body(rng: np.random.Generator) -> Body:
    return Body(
        scale=rng.uniform(0.94, 1.08),
        depth_scale=rng.uniform(0.97, 1.06),
        wall=rng.uniform(0.16, 0.2),
        fat=rng.uniform(0.04, 0.09),
        diaphragm_mm=rng.uniform(-8, 4),
        rib_phase=rng.uniform(0, 24),
        disk_phase=rng.uniform(0, 28),
        pericardial_fat_mm=rng.uniform(3, 8),
    )
