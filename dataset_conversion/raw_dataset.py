"""Writing a data set in nnU-Net's raw format, as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from sklearn.model_selection import StratifiedGroupKFold

from rl_nnunet.branches import DATASET_JSON_KEY, Pairing, describe_branches
from rl_nnunet.dataset_conversion.case_conversion import (
    FILE_ENDING,
    CaseSettings,
    convert_cases,
    unwritable,
)
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme, check_identifiers
from rl_nnunet.dataset_conversion.summary import format_summary
from rl_nnunet.errors import InputError

# nnU-Net takes every folder that starts with "Dataset" for a data set.
UNFINISHED_PREFIX = ".rl_nnunet_converting_"
SPLIT_SEED = 12345


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
    pairing : {"paired", "unpaired"}
        Whether every case has all branches, or one only.
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
    splits, notices = make_splits(training, dataset.folds)
    target = check_target(dataset, overwrite)
    try:
        with new_folder(target) as folder:
            for subfolder in ("imagesTr", "labelsTr", *_test_folders(dataset.cases)):
                (folder / subfolder).mkdir()
            settings = CaseSettings(folder, len(dataset.channel_names), dataset.labels, dataset.orientation)
            reports = convert_cases(dataset.cases, settings, processes)
            (folder / "splits_final.json").write_text(json.dumps(splits, indent=4))
            _write_dataset_json(dataset, folder, len(training))
    except OSError as error:
        raise InputError(unwritable(error)) from None
    print(format_summary(reports, list(dataset.branches), list(dataset.labels.names)))
    for notice in [*notices, *_stale_notices(dataset)]:
        print(f"Notice: {notice}")
    print(f"Written: {target}")


def _test_folders(cases: Sequence[Case]) -> list[str]:
    tests = [case for case in cases if case.is_test]
    return ["imagesTs"] * bool(tests) + ["labelsTs"] * any(case.label for case in tests)


def _write_dataset_json(dataset: RawDataset, folder: Path, num_training: int) -> None:
    generate_dataset_json(
        str(folder),
        {str(index): name for index, name in enumerate(dataset.channel_names)},
        dataset.labels.names,
        num_training,
        FILE_ENDING,
        dataset_name=dataset.folder_name,
        license="see the source of the images",
        converted_by=dataset.converted_by,
        **{DATASET_JSON_KEY: describe_branches(dataset.branches, dataset.pairing)},
    )


def make_splits(training: Sequence[Case], folds: int) -> tuple[list[dict[str, list[str]]], list[str]]:
    """Split the training cases for cross-validation, stratified by branch and grouped by patient.

    Parameters
    ----------
    training : sequence of Case
        The training cases.
    folds : int
        Number of folds; fewer are made where the patients do not suffice.

    Returns
    -------
    list of dict
        ``{"train": [...], "val": [...]}`` per fold, as in nnU-Net's ``splits_final.json``.
    list of str
        Notices.
    """
    training = sorted(training, key=lambda case: case.identifier)
    strata = ["+".join(case.branches) for case in training]
    patients = [case.patient for case in training]
    possible = min(len(set(patients)), max(map(strata.count, strata), default=0))
    if possible < 2:
        raise InputError(
            f"{len(set(patients))} labeled patients cannot be split into folds; add patients until one branch has two."
        )
    notices = []
    if possible < folds:
        notices.append(f"only {possible} folds instead of {folds}, because no branch has more patients than that.")
    splitter = StratifiedGroupKFold(min(folds, possible), shuffle=True, random_state=SPLIT_SEED)
    with warnings.catch_warnings():
        # A branch with fewer cases than folds is in the validation part of some folds only: nothing to mend.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(splitter.split(training, strata, patients))
    splits = [
        {side: [training[i].identifier for i in part] for side, part in zip(("train", "val"), fold, strict=True)}
        for fold in parts
    ]
    return splits, notices


def check_target(dataset: RawDataset, overwrite: bool) -> Path:
    """Return the folder of the data set, after checking that it may be written.

    Raises
    ------
    InputError
        If ``nnUNet_raw`` is unset, the name or ID is illegal or taken, or the data set exists already.
    """
    raw = os.environ.get("nnUNet_raw")
    if not raw:
        raise InputError("nnUNet_raw is not set; export it as the folder that holds your raw data sets.")
    if not 1 <= dataset.dataset_id <= 999:
        raise InputError(f"The data set ID {dataset.dataset_id} is not possible; choose one from 1 to 999.")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", dataset.name):
        raise InputError(f"The name {dataset.name!r} is not possible; use letters, digits, '_', '-' and '.' only.")
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folder = os.environ.get(variable)
        for other in sorted(Path(folder).glob(f"Dataset{dataset.dataset_id:03d}_*")) if folder else ():
            if other.name != dataset.folder_name:
                raise InputError(f"The data set ID {dataset.dataset_id} is taken by {other}; choose another ID.")
    target = Path(raw).absolute() / dataset.folder_name
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; add --overwrite to replace it, or choose another ID.")
    return target


def _stale_notices(dataset: RawDataset) -> list[str]:
    """Warn of what nnU-Net derived from an earlier data set of this name: it would go on using it."""
    folders = (os.environ.get(variable) for variable in ("nnUNet_preprocessed", "nnUNet_results"))
    stale = [Path(folder) / dataset.folder_name for folder in folders if folder]
    return [f"{path} stems from an earlier data set of this name; remove it." for path in stale if path.exists()]


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Provide an empty folder that becomes the target when the block ends well, and vanishes when it does not.

    The folder lies in a hidden one beside the target, which is locked as long as this process lives: that is how the
    next run tells a leftover of a killed run, which it removes, from the work of a run beside it.

    Parameters
    ----------
    target : Path
        The folder to be; what exists there is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent)
    workshop = target.parent / f"{UNFINISHED_PREFIX}{target.name}"
    try:
        workshop.mkdir()
    except FileExistsError:
        raise InputError(
            f"Another run is writing {target}; wait for it to end, or remove {workshop} if there is none."
        ) from None
    lock = _try_lock(workshop)
    try:
        folder = workshop / "new"
        folder.mkdir()
        yield folder
        replaced = workshop / "replaced"
        if target.exists():
            target.rename(replaced)
        try:
            folder.rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Lock a folder for this process; the system lifts the lock when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(raw: Path) -> None:
    for folder in raw.glob(f"{UNFINISHED_PREFIX}*"):
        lock = _try_lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
