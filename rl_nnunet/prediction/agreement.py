"""Whether the segmentations of a patient's scans agree where the scans show the same place.

Nothing in a header tells whether it is right, nor whose scan a file is, and a network that has learnt to trust a
companion trusts a wrong one, too. The segmentations tell: where scans are in the wrong place, or of different patients,
they agree less (docs/benchmarks.md has measurements). They also tell whether the other placement would have been
better.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from rl_nnunet.grids import relative_map
from rl_nnunet.prediction.patients import Patient

OUTSIDE = -1
"""Stands for a label where a scan does not reach."""
WORTH_A_WORD = 0.1
"""By how much relative extent has to be better than coordinates."""


class Agreement(NamedTuple):
    """How far two segmentations agree, Dice in [0, 1]: at the place that was used, and by relative extent."""

    used: float
    by_relative_extent: float

    def __str__(self) -> str:
        """Return it for the table."""
        hint = f" (by relative extent {self.by_relative_extent:.2f})"
        return f"{self.used:.2f}" + (hint if self.by_relative_extent > self.used + WORTH_A_WORD else "")


def dice_at_one_place(segmentation: Path, other: Path, transform: np.ndarray) -> float | None:
    """Return the mean Dice over the labels of two segmentations of one patient, on the voxels of the first.

    None where the second does not reach the first, or neither shows anything where it does.

    Parameters
    ----------
    segmentation, other : Path
        Two files.
    transform : array
        The map from mm in the first to mm in the second, (4, 4).
    """
    grid = sitk.ReadImage(str(segmentation))
    place = sitk.AffineTransform(3)
    place.SetMatrix(transform[:3, :3].ravel().tolist())
    place.SetTranslation(transform[:3, 3].tolist())
    there = sitk.Cast(sitk.ReadImage(str(other)), sitk.sitkInt16)
    moved = sitk.Resample(there, grid, place, sitk.sitkNearestNeighbor, OUTSIDE)
    here, there = map(sitk.GetArrayViewFromImage, (grid, moved))
    is_seen = there != OUTSIDE
    values = []
    for label in np.union1d(np.unique(here[is_seen]), np.unique(there[is_seen])):
        if label:
            one, two = (here == label) & is_seen, there == label
            values.append(2 * (one & two).sum() / (one.sum() + two.sum()))
    return float(np.mean(values)) if values else None


def agreement_of(patient: Patient, ending: str) -> Agreement | None:
    """Return how far the segmentations of a patient's scans agree: of several pairs, where they do least.

    None without companions, or where segmentations are missing or show nothing.

    Parameters
    ----------
    patient : Patient
        Whose segmentations may be there.
    ending : str
        Of their files.
    """
    files = {target.scan.name: Path(f"{target.output}{ending}") for target in patient.targets}
    if not all(file.is_file() for file in files.values()):
        return None
    found = []
    for target in patient.targets:
        for scan, place in target.companions:
            pair = files[target.scan.name], files[scan.name]
            used = dice_at_one_place(*pair, place.transform)
            if used is not None:
                relative = dice_at_one_place(*pair, relative_map(target.scan.grid, scan.grid))
                found.append(Agreement(used, relative or 0.0))
    return min(found, default=None)
