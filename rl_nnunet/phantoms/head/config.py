"""The settings of the phantom head, its sequences and the grades of its tumor. Free of imports that cost time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["HGG", "LGG"]
SequenceName = Literal["T1", "T1ce", "T2", "FLAIR"]

SEQUENCES: tuple[SequenceName, ...] = ("T1", "T1ce", "T2", "FLAIR")


@dataclass(frozen=True)
class HeadPhantomConfig:
    """What a phantom of a head with a tumor looks like and how it is sampled.

    Parameters
    ----------
    size : int
        Voxels along x and along y. The field of view stays the same, the spacing follows; 240 is the 1 mm grid of
        BraTS.
    field_of_view_mm : tuple of float
        Extent along (z, y, x) in mm.
    max_rotation_deg, max_shift_mm : float
        Largest rotation (about a random axis) and shift (per axis) of the head; BraTS is registered to an atlas, so
        they are small.
    scale_range : tuple of float
        Range of the size of the brain along each axis, relative to the template.
    deformation_mm : float
        Amplitude of the smooth, low-frequency deformation of everything.
    ventricle_range : tuple of float
        Range of the width of the ventricles, relative to the template.
    core_mm : tuple of float
        Range of the radius of the tumor core before treatment.
    residual_core_mm, cavity_mm : tuple of float
        Range of the radii of what is left, or came back, after surgery, and of the resection cavity.
    edema_mm, lgg_edema_mm : tuple of float
        Range of the mean width of the edema around the core of high-grade and low-grade gliomas.
    lgg_share : float
        Share of the patients with a low-grade glioma.
    lgg_enhancing_share : float
        Share of the low-grade gliomas with a small enhancing patch; the others do not enhance.
    cavity_share : float
        Share of the treated patients with a resection cavity.
    blur_voxels : float
        SD of the Gaussian that imitates partial volume, in voxels.
    noise : float
        SD of the Rician noise, relative to the brightness of healthy brain.
    bias : float
        SD of the logarithm of the multiplicative bias field of a sequence.
    texture : float
        SD of the smooth variation within a tissue, relative to its signal.
    """

    size: int = 96
    field_of_view_mm: tuple[float, float, float] = (155.0, 240.0, 240.0)
    max_rotation_deg: float = 8.0
    max_shift_mm: float = 4.0
    scale_range: tuple[float, float] = (0.9, 1.02)
    deformation_mm: float = 2.0
    ventricle_range: tuple[float, float] = (0.7, 1.5)
    core_mm: tuple[float, float] = (14.0, 25.0)
    residual_core_mm: tuple[float, float] = (10.0, 17.0)
    cavity_mm: tuple[float, float] = (10.0, 17.0)
    edema_mm: tuple[float, float] = (8.0, 20.0)
    lgg_edema_mm: tuple[float, float] = (5.0, 10.0)
    lgg_share: float = 0.25
    lgg_enhancing_share: float = 0.3
    cavity_share: float = 0.85
    blur_voxels: float = 0.5
    noise: float = 0.06
    bias: float = 0.12
    texture: float = 0.05
