"""How the four sequences of BraTS show a head: no single one shows every part of the tumor."""

from __future__ import annotations

import numpy as np

from rl_nnunet.phantoms.head.config import HeadPhantomConfig, SequenceName
from rl_nnunet.phantoms.head.tissues import HeadTissue
from rl_nnunet.phantoms.imaging import bias_field, rician, tissue_signal

# Signal relative to the brightest healthy tissue, except for CSF in T2.
_T1 = {
    HeadTissue.CSF: 0.3,
    HeadTissue.GRAY_MATTER: 0.8,
    HeadTissue.WHITE_MATTER: 1.0,
    HeadTissue.DEEP_GRAY: 0.87,
    HeadTissue.VESSEL: 0.7,
    HeadTissue.HYPERINTENSITY: 0.9,
    HeadTissue.NECROSIS: 0.62,
    HeadTissue.SOLID_CORE: 0.7,
    HeadTissue.ENHANCING: 0.75,
    HeadTissue.EDEMA: 0.78,
    HeadTissue.CAVITY: 0.33,
}
SIGNALS: dict[SequenceName, dict[HeadTissue, float]] = {
    "T1": _T1,
    # Contrast medium stays in vessels, and leaks where the tumor has broken the barrier between blood and brain.
    "T1ce": {**_T1, HeadTissue.VESSEL: 1.6, HeadTissue.ENHANCING: 1.5},
    "T2": {
        HeadTissue.CSF: 1.6,
        HeadTissue.GRAY_MATTER: 0.75,
        HeadTissue.WHITE_MATTER: 0.55,
        HeadTissue.DEEP_GRAY: 0.65,
        HeadTissue.VESSEL: 0.35,
        HeadTissue.HYPERINTENSITY: 0.95,
        HeadTissue.NECROSIS: 1.35,
        HeadTissue.SOLID_CORE: 1.15,
        HeadTissue.ENHANCING: 0.95,
        HeadTissue.EDEMA: 1.15,
        HeadTissue.CAVITY: 1.55,
    },
    "FLAIR": {
        HeadTissue.CSF: 0.15,
        HeadTissue.GRAY_MATTER: 0.8,
        HeadTissue.WHITE_MATTER: 0.65,
        HeadTissue.DEEP_GRAY: 0.75,
        HeadTissue.VESSEL: 0.45,
        HeadTissue.HYPERINTENSITY: 1.25,
        HeadTissue.NECROSIS: 0.85,
        HeadTissue.SOLID_CORE: 1.2,
        HeadTissue.ENHANCING: 1.05,
        HeadTissue.EDEMA: 1.35,
        HeadTissue.CAVITY: 0.22,
    },
}
# SD from case to case of a signal, relative to it.
SIGNAL_SD = 0.03
# MR has no unit: the range, in intensity units, of what relative signal 1 is stored as.
SCALE_RANGE = (150.0, 1500.0)


def render_sequence(
    tissues: np.ndarray,
    sequence: SequenceName,
    rng: np.random.Generator,
    config: HeadPhantomConfig,
    noise_only: bool = False,
) -> np.ndarray:
    """Return one sequence of a head, with a bias field, Rician noise and an arbitrary intensity scale.

    Parameters
    ----------
    tissues : numpy.ndarray
        Shape (z, y, x), see `rl_nnunet.phantoms.head.render.render_head`.
    sequence : {"T1", "T1ce", "T2", "FLAIR"}
        Which one.
    rng : numpy.random.Generator
        Source of signals, scale, bias field and noise.
    config : HeadPhantomConfig
        Its ``blur_voxels``, ``noise``, ``bias`` and ``texture`` are used.
    noise_only : bool
        Nothing but noise inside the brain.

    Returns
    -------
    numpy.ndarray
        Shape (z, y, x), int16: 0 outside of the brain and nowhere else.
    """
    scale = np.exp(rng.uniform(*np.log(SCALE_RANGE)))
    brain = tissues != HeadTissue.OUTSIDE
    if noise_only:
        # As bright as a sequence is on average: its intensities alone do not give it away.
        signal, sd = np.zeros(np.count_nonzero(brain), dtype=np.float32), 0.6
    else:
        signal, sd = _noiseless(tissues, sequence, rng, config)[brain], config.noise
    image = np.zeros(tissues.shape, dtype=np.int16)
    image[brain] = np.clip(np.rint(np.float32(scale) * rician(signal, sd, rng)), 1, np.iinfo(np.int16).max)
    return image


def _noiseless(
    tissues: np.ndarray, sequence: SequenceName, rng: np.random.Generator, config: HeadPhantomConfig
) -> np.ndarray:
    levels = np.zeros(len(HeadTissue), dtype=np.float32)
    for tissue, level in SIGNALS[sequence].items():
        levels[tissue] = level * rng.normal(1, SIGNAL_SD)
    # What skull stripping removed was no vacuum: the blur must not darken the surface of the brain.
    levels[HeadTissue.OUTSIDE] = levels[HeadTissue.GRAY_MATTER]
    signal = tissue_signal(tissues, levels, config.texture, config.blur_voxels, rng)
    return signal * bias_field(tissues.shape, config.bias, rng)
