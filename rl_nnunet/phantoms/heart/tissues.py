"""What a voxel of the phantom can be, and which of it carries a label."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class HeartTissue(IntEnum):
    """Tissues of the phantom; the first seven are the labeled structures, in the order of their class index."""

    AIR = 0
    LEFT_VENTRICLE = 1
    RIGHT_VENTRICLE = 2
    LEFT_ATRIUM = 3
    RIGHT_ATRIUM = 4
    MYOCARDIUM = 5
    ASCENDING_AORTA = 6
    PULMONARY_ARTERY = 7
    PAPILLARY_MUSCLE = 8
    ARTERY = 9
    SYSTEMIC_VEIN = 10
    PULMONARY_VEIN = 11
    DISTAL_PULMONARY_ARTERY = 12
    MUSCLE = 13
    FAT = 14
    LUNG = 15
    BONE = 16
    LIVER = 17
    SPLEEN = 18
    SPINAL_CANAL = 19


# The values of MM-WHS 2017 of the classes 1 to 7, in the order of `HeartTissue`.
RAW_LABELS = {"LV": 500, "RV": 600, "LA": 420, "RA": 550, "Myo": 205, "AO": 820, "PA": 850}
CLASS_NAMES = ("background", *RAW_LABELS)

_CLASS_OF_TISSUE = np.zeros(len(HeartTissue), dtype=np.uint8)
_CLASS_OF_TISSUE[1:8] = np.arange(1, 8)
# Papillary muscles are dark in the image but part of the blood pool in the label, as in MM-WHS.
_CLASS_OF_TISSUE[HeartTissue.PAPILLARY_MUSCLE] = HeartTissue.LEFT_VENTRICLE
_RAW_OF_CLASS = np.array([0, *RAW_LABELS.values()], dtype=np.int16)


def labels_from_heart(tissues: np.ndarray) -> np.ndarray:
    """Return the class index (uint8, 0 to 7, see `CLASS_NAMES`) of every voxel of a tissue map."""
    return _CLASS_OF_TISSUE[tissues]


def raw_labels(labels: np.ndarray) -> np.ndarray:
    """Return MM-WHS's label values (int16, 500 for LV and so on) for a map of class indices."""
    return _RAW_OF_CLASS[labels]
