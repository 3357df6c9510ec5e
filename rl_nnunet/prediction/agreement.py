"""Whether the segmentations of a patient's scans agree where the scans show the same place.

Nothing in a header tells whether its coordinates are right, and a network that has learnt to trust a companion trusts a
wrong one, too. The segmentations may tell: where scans are in the wrong place, or of different patients, they agree
less (docs/benchmarks.md has measurements). They may also tell that the other placement would have been better.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.grids import relative_map
from rl_nnunet.label_maps import MOST_LABELS
from rl_nnunet.prediction.patients import Patient
from rl_nnunet.scans import read_volume

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


def dice_at_one_place(segmentation: sitk.Image, other: sitk.Image, transform: np.ndarray) -> float | None:
    """Return the mean Dice over the labels of two segmentations of one patient, on the voxels of the first.

    Only what both scans reach counts. None where neither shows anything there.

    Parameters
    ----------
    segmentation, other : Image
        Of 16 bit.
    transform : array
        The map from mm in the first to mm in the second, (4, 4).
    """
    place = sitk.AffineTransform(3)
    place.SetMatrix(transform[:3, :3].ravel().tolist())
    place.SetTranslation(transform[:3, 3].tolist())
    moved = sitk.Resample(other, segmentation, place, sitk.sitkNearestNeighbor, OUTSIDE)
    here, there = map(sitk.GetArrayViewFromImage, (segmentation, moved))
    size = int(max(here.max(), there.max())) + 1
    pairs = np.zeros((size, size), np.int64)
    for one, two in zip(here, there, strict=True):  # slice by slice: as a whole, this would take several volumes
        is_seen = two != OUTSIDE
        joint = one[is_seen].astype(np.int64) * size + two[is_seen]
        pairs += np.bincount(joint, minlength=size**2).reshape(pairs.shape)
    both = pairs.sum(0) + pairs.sum(1)
    values = [2 * pairs[label, label] / both[label] for label in range(1, size) if both[label]]
    return float(np.mean(values)) if values else None


def agreement_of(patient: Patient, ending: str) -> Agreement | None:
    """Return how far the segmentations of a patient's scans agree: of several pairs, where they do least.

    0 where they show nothing that both scans reach. None without companions, or if none of them shows anything.

    Parameters
    ----------
    patient : Patient
        Whose segmentations are there.
    ending : str
        Of their files.

    Raises
    ------
    InputError
        If a segmentation cannot be read, or is none.
    """
    if not any(target.companions for target in patient.targets):
        return None
    images = {target.scan.name: _read_labels(Path(f"{target.output}{ending}")) for target in patient.targets}
    if not any(sitk.GetArrayViewFromImage(image).any() for image in images.values()):
        return None
    found = []
    for target in patient.targets:
        for scan, place in target.companions:
            pair = images[target.scan.name], images[scan.name]
            used = relative = dice_at_one_place(*pair, place.transform)
            if place.placement == "physical":
                relative = dice_at_one_place(*pair, relative_map(target.scan.grid, scan.grid))
            found.append(Agreement(used or 0.0, relative or 0.0))
    return min(found)


def _read_labels(path: Path) -> sitk.Image:
    """Read a segmentation, which may be left of another run, as 16 bit."""
    image = read_volume(path)
    values = sitk.GetArrayViewFromImage(image)
    if values.min() < 0 or values.max() > MOST_LABELS:
        raise InputError(f"{path} is no segmentation, it has values from {values.min():g} to {values.max():g}.")
    return sitk.Cast(image, sitk.sitkInt16)
