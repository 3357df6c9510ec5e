"""The settings of the phantoms. Free of imports that cost time, because the command's ``--help`` shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeartPhantomConfig:
    """What a heart phantom looks like and how it is sampled.

    Parameters
    ----------
    size : int
        Voxels along the longest axis of a CT. The field of view stays the same, the spacing follows.
    ct_field_of_view_mm, mr_field_of_view_mm : tuple of float
        Nominal extent along (z, y, x) in mm; every case varies by `field_of_view_jitter`.
    pair_field_of_view_mm : float
        Edge length in mm of the cube that `rl_nnunet.phantoms.heart.make_pair` shows.
    field_of_view_jitter : float
        Relative half-width of the variation of the field of view.
    center_jitter_mm : float
        How far, per axis, the middle of an image may lie from the nominal middle of the heart.
    ct_slice_ratio : float
        Spacing along z over the spacing in the plane of a CT (0.6 mm over 0.44 mm in MM-WHS).
    mr_finest_spacing_mm : float
        An MR is never finer than about this, whatever `size`.
    max_rotation_deg, max_shift_mm : float
        Largest rotation (about a random axis) and shift (per axis) of the heart inside the body.
    scale_range : tuple of float
        Range of the size of the heart, relative to the template.
    deformation_mm : float
        Amplitude of the smooth, low-frequency deformation of everything.
    blur_voxels : float
        SD of the Gaussian that imitates partial volume, in voxels.
    ct_noise_hu : float
        SD of the noise of a CT in HU.
    mr_noise : float
        SD of the Rician noise of an MR, in intensity units (blood is about 450 to 600).
    mr_bias : float
        SD of the logarithm of the multiplicative bias field of an MR.
    ct_reoriented, mr_reoriented : float
        Share of the volumes that are stored in another anatomical orientation than LPS.
    """

    size: int = 96
    ct_field_of_view_mm: tuple[float, float, float] = (150.0, 200.0, 200.0)
    mr_field_of_view_mm: tuple[float, float, float] = (165.0, 205.0, 215.0)
    pair_field_of_view_mm: float = 165.0
    field_of_view_jitter: float = 0.05
    center_jitter_mm: float = 5.0
    ct_slice_ratio: float = 1.36
    mr_finest_spacing_mm: float = 1.0
    max_rotation_deg: float = 20.0
    max_shift_mm: float = 6.0
    scale_range: tuple[float, float] = (0.88, 1.1)
    deformation_mm: float = 2.5
    blur_voxels: float = 0.5
    ct_noise_hu: float = 25.0
    mr_noise: float = 50.0
    mr_bias: float = 0.15
    ct_reoriented: float = 0.1
    mr_reoriented: float = 0.5


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
