"""Which preprocessed cases are scans of one patient, and where a place of one lies in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from rl_nnunet.errors import InputError
from rl_nnunet.grids import Grid, find_place, grid_of_properties, preprocessed_affine
from rl_nnunet.windows import Window, corresponding_window, interpolated_axes


@dataclass(frozen=True)
class PreprocessedScan:
    """What a preprocessed case is in the patient.

    Parameters
    ----------
    grid : Grid
        Of the image before preprocessing.
    to_mm : array
        The map from indices of the preprocessed image to mm, (4, 4).
    shape : array
        Of the preprocessed image, without channels.
    """

    grid: Grid
    to_mm: np.ndarray
    shape: np.ndarray


class CompanionPlaces:
    """The scans of each patient, and the maps between their indices.

    Parameters
    ----------
    dataset : nnUNetBaseDataset
        Preprocessed cases.
    cases : mapping of str to sequence of str
        The cases of each branch.
    patients : mapping of str to str
        The patient of each case.
    placement : {"auto", "physical", "relative"}
        How a place is found; see `rl_nnunet.grids.pair`.
    transpose_forward : sequence of int
        Of the plans.
    spacing : sequence of float
        Of the configuration, in mm.

    Attributes
    ----------
    descriptions : dict of str to int
        How places are found, each with the number of ordered pairs of scans.

    Raises
    ------
    InputError
        If nnU-Net has noted no position of a scan that has a companion.
    """

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        cases: Mapping[str, Sequence[str]],
        patients: Mapping[str, str],
        placement: str,
        transpose_forward: Sequence[int],
        spacing: Sequence[float],
    ) -> None:
        self._axes = interpolated_axes(spacing)
        branches_of: dict[str, dict[str, list[str]]] = {}
        for branch, names in cases.items():
            for case in names:
                branches_of.setdefault(patients[case], {}).setdefault(branch, []).append(case)
        self._of_patient = {patient: scans for patient, scans in branches_of.items() if len(scans) > 1}
        self._patients = {
            case: patients[case] for scans in self._of_patient.values() for case in sum(scans.values(), [])
        }
        order = list(transpose_forward)
        self._scans = {case: _read_scan(dataset, case, order) for case in self._patients}
        self._maps: dict[tuple[str, str], np.ndarray] = {}
        found: Counter[str] = Counter()
        for scans in self._of_patient.values():
            pairs = [
                (a, b) for one in scans for other in scans if one != other for a in scans[one] for b in scans[other]
            ]
            for case, companion in pairs:
                here, there = self._scans[case], self._scans[companion]
                place = find_place(here.grid, there.grid, placement)
                self._maps[case, companion] = place.index_map(here.to_mm, there.to_mm)
                found[place.description.partition(",")[0]] += 1
        self.descriptions = dict(found)

    @property
    def patients(self) -> list[str]:
        """The patients that have scans of several branches."""
        return list(self._of_patient)

    def companions(self, case: str, branch: str) -> list[str]:
        """Return the cases of another branch that show the patient of a case; none is common."""
        return self._of_patient.get(self._patients.get(case, ""), {}).get(branch, [])

    def window(self, case: str, companion: str, lower: np.ndarray, size: np.ndarray) -> Window | None:
        """Return the companion's window at the place of a window of a case.

        None if the middle of the place is outside of the companion.

        Parameters
        ----------
        case, companion : str
            Two scans of one patient.
        lower, size : array
            First index of the window of the case, and the size of both, in voxels.
        """
        window = corresponding_window(self._maps[case, companion], lower, size, self._axes)
        center = window.start + size // 2
        return window if ((center >= 0) & (center < self._scans[companion].shape)).all() else None


def _read_scan(dataset: nnUNetBaseDataset, case: str, transpose_forward: list[int]) -> PreprocessedScan:
    data, _, _, properties = dataset.load_case(case)
    if len(properties.get("sitk_stuff", {}).get("spacing", ())) != 3:
        raise InputError(
            f"The preprocessed case {case} does not say where the scan lies; to train on several scans of a patient, "
            "convert the data set to 3D NIfTI files, which nnU-Net reads with SimpleITKIO, then plan and preprocess."
        )
    affine = preprocessed_affine(properties, data.shape[1:], transpose_forward)
    return PreprocessedScan(grid_of_properties(properties, transpose_forward), affine, np.array(data.shape[1:]))
