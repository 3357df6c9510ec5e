"""The settings of the phantom heart. Free of imports that cost time, because the command's ``--help`` shows them."""

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
        Edge length in mm of the cube that `rl_nnunet.phantoms.heart.cases.make_heart_pair` shows.
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
