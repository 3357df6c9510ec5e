"""How CT and MR show tissues: contrast that varies from case to case, partial volume, bias field and noise."""

from __future__ import annotations

import numpy as np

from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.tissues import HeartTissue
from rl_nnunet.phantoms.imaging import bias_field, rician, tissue_signal

# Mean and SD from case to case, in HU, of what contrast medium does not reach.
CT_TISSUES = {
    HeartTissue.AIR: (-1000, 0),
    HeartTissue.MYOCARDIUM: (100, 10),
    HeartTissue.PAPILLARY_MUSCLE: (100, 10),
    HeartTissue.MUSCLE: (65, 6),
    HeartTissue.FAT: (-85, 8),
    HeartTissue.LUNG: (-810, 25),
    HeartTissue.BONE: (550, 80),
    HeartTissue.LIVER: (95, 10),
    HeartTissue.SPLEEN: (120, 12),
    HeartTissue.SPINAL_CANAL: (30, 5),
}
# The contrast medium sets one level for each side of the heart; a structure's level differs from its side's by this.
CT_LEFT_SIDE = (
    HeartTissue.LEFT_VENTRICLE,
    HeartTissue.LEFT_ATRIUM,
    HeartTissue.ASCENDING_AORTA,
    HeartTissue.ARTERY,
    HeartTissue.PULMONARY_VEIN,
)
CT_RIGHT_SIDE = (
    HeartTissue.RIGHT_VENTRICLE,
    HeartTissue.RIGHT_ATRIUM,
    HeartTissue.PULMONARY_ARTERY,
    HeartTissue.SYSTEMIC_VEIN,
    HeartTissue.DISTAL_PULMONARY_ARTERY,
)
CT_LEFT_RANGE, CT_RIGHT_RANGE, CT_STRUCTURE_SD = (340, 460), (220, 350), 15

# Mean and SD from case to case of a balanced steady-state free precession MR: blood and fat are bright.
MR_TISSUES = {
    HeartTissue.AIR: (5, 0),
    HeartTissue.LEFT_VENTRICLE: (560, 30),
    HeartTissue.RIGHT_VENTRICLE: (520, 30),
    HeartTissue.LEFT_ATRIUM: (530, 30),
    HeartTissue.RIGHT_ATRIUM: (500, 30),
    HeartTissue.MYOCARDIUM: (260, 15),
    HeartTissue.ASCENDING_AORTA: (540, 35),
    HeartTissue.PULMONARY_ARTERY: (480, 35),
    HeartTissue.PAPILLARY_MUSCLE: (260, 15),
    HeartTissue.ARTERY: (520, 40),
    HeartTissue.SYSTEMIC_VEIN: (480, 40),
    HeartTissue.PULMONARY_VEIN: (500, 40),
    HeartTissue.DISTAL_PULMONARY_ARTERY: (460, 40),
    HeartTissue.MUSCLE: (190, 15),
    HeartTissue.FAT: (350, 40),
    HeartTissue.LUNG: (40, 8),
    HeartTissue.BONE: (160, 20),
    HeartTissue.LIVER: (270, 25),
    HeartTissue.SPLEEN: (330, 30),
    HeartTissue.SPINAL_CANAL: (580, 40),
}

# Smooth variation within one tissue, relative to its level above air (CT) or its signal (MR).
TEXTURE_SD = 0.04


def render_ct(tissues: np.ndarray, rng: np.random.Generator, config: HeartPhantomConfig) -> np.ndarray:
    """Return a contrast-enhanced CT of a tissue map.

    Parameters
    ----------
    tissues : numpy.ndarray
        Shape (z, y, x), see `rl_nnunet.phantoms.heart.render.render_heart`.
    rng : numpy.random.Generator
        Source of the contrast levels and the noise.
    config : HeartPhantomConfig
        Its ``blur_voxels`` and ``ct_noise_hu`` are used.

    Returns
    -------
    numpy.ndarray
        Shape (z, y, x), int16, in HU.
    """
    levels = _sample_levels(CT_TISSUES, rng)
    for side, bounds in ((CT_LEFT_SIDE, CT_LEFT_RANGE), (CT_RIGHT_SIDE, CT_RIGHT_RANGE)):
        levels[list(side)] = rng.uniform(*bounds) + rng.normal(0, CT_STRUCTURE_SD, size=len(side))
    air = levels[HeartTissue.AIR]
    above_air = tissue_signal(tissues, levels.astype(np.float32) - air, TEXTURE_SD / 2, config.blur_voxels, rng)
    image = above_air + np.float32(air)
    image += np.float32(config.ct_noise_hu) * rng.standard_normal(tissues.shape, dtype=np.float32)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def render_mr(tissues: np.ndarray, rng: np.random.Generator, config: HeartPhantomConfig) -> np.ndarray:
    """Return a bSSFP-like MR of a tissue map, with a bias field and Rician noise.

    Parameters
    ----------
    tissues : numpy.ndarray
        Shape (z, y, x), see `rl_nnunet.phantoms.heart.render.render_heart`.
    rng : numpy.random.Generator
        Source of the contrast levels, the bias field and the noise.
    config : HeartPhantomConfig
        Its ``blur_voxels``, ``mr_bias`` and ``mr_noise`` are used.

    Returns
    -------
    numpy.ndarray
        Shape (z, y, x), int16, never negative.
    """
    levels = _sample_levels(MR_TISSUES, rng).astype(np.float32)
    signal = tissue_signal(tissues, levels, TEXTURE_SD, config.blur_voxels, rng)
    signal *= bias_field(tissues.shape, config.mr_bias, rng)
    return np.clip(np.rint(rician(signal, config.mr_noise, rng)), 0, np.iinfo(np.int16).max).astype(np.int16)


def _sample_levels(table: dict[HeartTissue, tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    levels = np.zeros(len(HeartTissue))
    for tissue, (mean, sd) in table.items():
        levels[tissue] = rng.normal(mean, sd)
    # One muscle, one level.
    levels[HeartTissue.PAPILLARY_MUSCLE] = levels[HeartTissue.MYOCARDIUM]
    return levels
