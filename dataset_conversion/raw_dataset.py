"""Writing a data set in nnU-Net's raw format, as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

from rl_nnunet.branches import DATASET_JSON_KEY, ORIENTATION_KEY, Pairing, describe_branches
from rl_nnunet.case_table import CASE_TABLE, TableRow, write_case_table
from rl_nnunet.class_folds import possible_folds
from rl_nnunet.class_table import CLASS_TABLE, CLASSES_KEY, ClassRow, write_class_table
from rl_nnunet.dataset_conversion.case_conversion import FILE_ENDING, CaseSettings, convert_cases
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme, check_identifiers
from rl_nnunet.dataset_conversion.splits import make_splits
from rl_nnunet.dataset_conversion.summary import format_summary
from rl_nnunet.environment import data_folder
from rl_nnunet.errors import InputError
from rl_nnunet.files import UNFINISHED_PREFIX, new_folder

DATASET_KIND = "a converted data set"
LONGEST_NAME = 128
"""In bytes; file systems take 255 for a name, and nnU-Net puts this one into others."""


@dataclass(frozen=True)
class RawDataset:
    """A data set that is to be written.

    Parameters
    ----------
    dataset_id : int
        nnU-Net's data set ID.
    name : str
        Its name, without the ID.
    branches : dict of str to tuple of str
        Channel names of every branch; their order is the order of the channels.
    pairing : {"paired", "unpaired", "unregistered"}
        Whether every case has all branches, or one only; and if so, whether patients have cases of several branches.
    labels : LabelScheme
        The labels.
    cases : list of Case
        Training and test cases.
    orientation : str
        Orientation code that all images get, or "keep".
    folds : int
        Number of folds of the cross-validation.
    converted_by : str
        The command, for the record in ``dataset.json``.
    stratified_by : str
        What the strata of the cases are, such as "grade", if they are not the branches.
    one_patient_is_enough : bool
        Whether a data set that cannot be split into folds is written without them, for training on all of it.
    record : dict
        What else is recorded in ``dataset.json``, under the key ``rl_nnunet``.
    notices : list of str
        What there is to say of the files, besides what becomes of their content.
    classes : tuple of str
        Names of the classes of a classification data set.
    class_rows : list of ClassRow
        The class of every training case, and of test cases where it is known.
    """

    dataset_id: int
    name: str
    branches: dict[str, tuple[str, ...]]
    pairing: Pairing
    labels: LabelScheme
    cases: list[Case]
    orientation: str
    converted_by: str
    folds: int = 5
    stratified_by: str = "branch"
    one_patient_is_enough: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    class_rows: list[ClassRow] = field(default_factory=list)

    @property
    def folder_name(self) -> str:
        """Name of nnU-Net's data set folder."""
        return f"Dataset{self.dataset_id:03d}_{self.name}"

    @property
    def channel_names(self) -> list[str]:
        """Names of all channels, in order."""
        return [channel for channels in self.branches.values() for channel in channels]


def write_dataset(dataset: RawDataset, *, processes: int, overwrite: bool) -> None:
    """Convert all cases, write the data set below ``nnUNet_raw``, and print a summary.

    Raises
    ------
    InputError
        If any case cannot be used, or the data set cannot be written; nothing is left behind then.
    """
    check_identifiers(dataset.cases)
    training = [case for case in dataset.cases if not case.is_test]
    for branch in dataset.branches:
        if not any(branch in case.branches for case in training):
            raise InputError(f"{branch} has no training case; add labeled cases, or leave the branch out.")
    companions = _companion_notices(dataset, training)
    splits, notices = _splits_if_possible(dataset, training)
    target = check_target(dataset)
    with new_folder(target, DATASET_KIND, overwrite=overwrite) as folder:
        _check_no_other_run(dataset, target)
        for subfolder in ("imagesTr", "labelsTr", *_test_folders(dataset.cases)):
            (folder / subfolder).mkdir()
        settings = CaseSettings(folder, tuple(dataset.channel_names), dataset.labels, dataset.orientation)
        reports = convert_cases(dataset.cases, settings, processes)
        if splits:
            (folder / "splits_final.json").write_text(json.dumps(splits, indent=4))
        # Of a classification data set, folds are made later on, too, and must know the patients; so must training on
        # several scans of a patient.
        if dataset.classes or dataset.pairing == "unregistered" or any(case.details for case in dataset.cases):
            write_case_table(folder / CASE_TABLE, [_table_row(case) for case in dataset.cases])
        if dataset.class_rows:
            write_class_table(folder / CLASS_TABLE, dataset.class_rows)
        _write_dataset_json(dataset, folder, len(training))
        # A data set of another name may have got the ID since.
        _check_id(dataset)
    print(format_summary(reports, list(dataset.branches), list(dataset.labels.structures), dataset.stratified_by))
    for notice in [*dataset.notices, *companions, *notices, *_stale_notices(dataset)]:
        print(f"Notice: {notice}")
    print(f"Written: {target}")


def _companion_notices(dataset: RawDataset, training: Sequence[Case]) -> list[str]:
    """Say how many patients have scans of several branches, where that is what the data set is for.

    Raises
    ------
    InputError
        If none has.
    """
    if dataset.pairing != "unregistered":
        return []
    branches: dict[str, set[str]] = {}
    for case in training:
        branches.setdefault(case.patient, set()).update(case.branches)
    several = sorted(patient for patient, names in branches.items() if len(names) > 1)
    if not several:
        raise InputError(
            "--same_patient: no training case has one name in two branches; let {case} stand for the patient in the "
            "patterns of all of them, or leave the option out."
        )
    return [
        f"{len(several)} of {len(branches)} training patients have scans of several branches, first {several[0]}; "
        "their scans train together, each on its own grid."
    ]


def _test_folders(cases: Sequence[Case]) -> list[str]:
    tests = [case for case in cases if case.is_test]
    return ["imagesTs"] * bool(tests) + ["labelsTs"] * any(case.label for case in tests)


def _write_dataset_json(dataset: RawDataset, folder: Path, num_training: int) -> None:
    record = describe_branches(dataset.branches, dataset.pairing)
    record |= {CLASSES_KEY: list(dataset.classes)} if dataset.classes else {}
    record |= {ORIENTATION_KEY: dataset.orientation, **dataset.record}
    generate_dataset_json(
        str(folder),
        {str(index): name for index, name in enumerate(dataset.channel_names)},
        num_training_cases=num_training,
        file_ending=FILE_ENDING,
        dataset_name=dataset.folder_name,
        license="see the source of the images",
        converted_by=dataset.converted_by,
        **dataset.labels.dataset_json_entries,
        **{DATASET_JSON_KEY: record},
    )


def _table_row(case: Case) -> TableRow:
    return TableRow(case.identifier, case.patient, "test" if case.is_test else "train", case.details)


def _splits_if_possible(dataset: RawDataset, training: Sequence[Case]) -> tuple[list[dict[str, list[str]]], list[str]]:
    """Return splits and notices; no splits if one patient is all there is, and enough, or a class has one only."""
    if dataset.classes:
        labels = {row.case: dataset.classes.index(row.label) for row in dataset.class_rows if row.split == "train"}
        patients = {case.identifier: case.patient for case in training}
        return possible_folds(labels, dataset.classes, dataset.folds, patients)
    if dataset.one_patient_is_enough and len({case.patient for case in training}) == 1:
        command = f"nnUNetv2_train {dataset.dataset_id} CONFIGURATION all"
        return [], [f"one patient cannot be split into folds; train on all cases instead ({command})."]
    return make_splits(training, dataset.folds)


def check_target(dataset: RawDataset) -> Path:
    """Return the folder that the data set gets.

    Raises
    ------
    InputError
        If ``nnUNet_raw`` is unset or no folder, or the name or ID is illegal or taken.
    """
    raw = data_folder("nnUNet_raw")
    if not 1 <= dataset.dataset_id <= 999:
        raise InputError(f"The data set ID {dataset.dataset_id} is not possible; choose one from 1 to 999.")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", dataset.name):
        raise InputError(f"The name {dataset.name!r} is not possible; use letters, digits, '_', '-' and '.' only.")
    if len(dataset.name.encode()) > LONGEST_NAME:
        raise InputError(f"-n: the name has {len(dataset.name)} characters; choose one of at most {LONGEST_NAME}.")
    _check_id(dataset)
    return raw / dataset.folder_name


def _check_id(dataset: RawDataset) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = os.environ.get(variable)
        for other in sorted(Path(folder).glob(f"Dataset{dataset.dataset_id:03d}_*")) if folder else ():
            if other.name != dataset.folder_name:
                raise InputError(f"The data set ID {dataset.dataset_id} is taken by {other}; choose another ID.")


def _check_no_other_run(dataset: RawDataset, target: Path) -> None:
    """Refuse an ID that a run beside this one writes to; what killed runs left must have been removed by now."""
    for other in sorted(target.parent.glob(f"{UNFINISHED_PREFIX}Dataset{dataset.dataset_id:03d}_*")):
        if other.name != UNFINISHED_PREFIX + target.name:
            raise InputError(
                f"Another run is writing a data set with the ID {dataset.dataset_id}; choose another ID, or remove "
                f"{other} if there is none."
            )


def _stale_notices(dataset: RawDataset) -> list[str]:
    """Warn of what nnU-Net derived from an earlier data set of this name: it would go on using it."""
    folders = (os.environ.get(variable) for variable in ("nnUNet_preprocessed", "nnUNet_results"))
    stale = [Path(folder) / dataset.folder_name for folder in folders if folder]
    return [f"{path} stems from an earlier data set of this name; remove it." for path in stale if path.exists()]
