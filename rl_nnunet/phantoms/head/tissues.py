"""What a voxel of the phantom head can be, and which label BraTS gives it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

NECROSIS_LABEL, EDEMA_LABEL = 1, 2


class HeadTissue(IntEnum):
    """Tissues of the phantom head; `OUTSIDE` is what skull stripping removed."""

    OUTSIDE = 0
    CSF = 1
    GRAY_MATTER = 2
    WHITE_MATTER = 3
    DEEP_GRAY = 4
    VESSEL = 5
    HYPERINTENSITY = 6
    NECROSIS = 7
    SOLID_CORE = 8
    ENHANCING = 9
    EDEMA = 10
    CAVITY = 11


def labels_from_head(tissues: np.ndarray, enhancing: int, cavity: int) -> np.ndarray:
    """Return the labels (uint8) of a tissue map; those of the enhancing tumor and of the cavity differ by year."""
    label_of = np.zeros(len(HeadTissue), dtype=np.uint8)
    # BraTS has one label for the necrosis and for the solid core that does not enhance.
    label_of[[HeadTissue.NECROSIS, HeadTissue.SOLID_CORE]] = NECROSIS_LABEL
    label_of[HeadTissue.EDEMA] = EDEMA_LABEL
    label_of[HeadTissue.ENHANCING] = enhancing
    label_of[HeadTissue.CAVITY] = cavity
    return label_of[tissues]
