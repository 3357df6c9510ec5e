"""Recording the branches of a data set that is there already, after a look at what its images hold."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from rl_nnunet.branches import BranchLayout, channel_indices, layout_from_dataset_json
from rl_nnunet.case_table import read_patients
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.splits import make_splits
from rl_nnunet.errors import InputError
from rl_nnunet.files import changing_our_files, new_file
from rl_nnunet.parallel import report_on_all
from rl_nnunet.presence.cases import branches_with, constant_value


@dataclass
class PresenceReport:
    """What one case holds.

    Parameters
    ----------
    name : str
        The case.
    constant : dict of int to float
        The value of every channel that has one value everywhere, which is taken for absent.
    error : str
        The sentence if the case cannot be read.
    """

    name: str
    constant: dict[int, float]
    error: str = ""

    def branches(self, layout: BranchLayout) -> tuple[str, ...]:
        """Names of the branches that have some channel."""
        channels = {channel for branch in layout.branches for channel in branch.channels}
        return branches_with(layout, channels - self.constant.keys())


def record_branches(folder: Path, dataset_json: dict[str, Any], folds: int, processes: int) -> None:
    """Check the images of a data set, write its ``dataset.json`` and, where there are none, its splits.

    Parameters
    ----------
    folder : Path
        The data set.
    dataset_json : dict
        The content that is to be written, with the branches.
    folds : int
        Number of folds.
    processes : int
        Number of processes.

    Raises
    ------
    InputError
        If a case does not fit the pairing or cannot be read, or its patient has to be known and is not; nothing is
        written then.
    """
    layout = layout_from_dataset_json(dataset_json)
    reports = _examine(folder, dataset_json, processes)
    names = [report.name for report in reports]
    patients = dict(zip(names, names, strict=True))
    if layout.pairing == "unregistered":
        remedy = "write it, with the columns case, patient and part (train or test), or correct it"
        patients = read_patients(folder, names, remedy)
    cases = [Case(report.name, report.branches(layout), patients[report.name], {}) for report in reports]
    _check_pairing(cases, layout, folder)
    notices = _constant_notices(reports, dataset_json)
    if (folder / "splits_final.json").exists():
        notices += _kept_splits_notices(folder / "splits_final.json", cases)
    else:
        notices += _write_splits(folder, cases, folds)
    with changing_our_files(folder, "dataset.json"):
        _write_json(folder / "dataset.json", dataset_json)
    for name in layout.names:
        print(f"{name}: {sum(name in case.branches for case in cases)} of {len(cases)} training cases")
    for notice in [*notices, *_stale_notices(folder)]:
        print(f"Notice: {notice}")
    print(f"Written: {folder / 'dataset.json'}")


def _examine(folder: Path, dataset_json: dict[str, Any], processes: int) -> list[PresenceReport]:
    try:
        # nnU-Net writes into what it is given.
        dataset = get_filenames_of_train_images_and_targets(str(folder), copy.deepcopy(dataset_json))
        reader = determine_reader_writer_from_dataset_json(dataset_json, verbose=False)
        cases = {str(name): [str(image) for image in case["images"]] for name, case in dataset.items()}
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is no data set that nnU-Net can read ({error}); correct it.") from None
    if not cases:
        raise InputError(
            f"{folder / 'imagesTr'} holds no case with the ending {dataset_json['file_ending']}; correct it."
        )
    examine = partial(_examine_case, reader=reader, channels=len(channel_indices(dataset_json)))
    return report_on_all(examine, sorted(cases.items()), processes, "Examining")


def _examine_case(case: tuple[str, list[str]], reader: type[BaseReaderWriter], channels: int) -> PresenceReport:
    name, images = case
    report = PresenceReport(name, {})
    if len(images) != channels:
        report.error = (
            f"The case {name} has {len(images)} image files, but dataset.json {channels} channels; add the rest."
        )
        return report
    try:
        data, _ = reader().read_images(images)
    except Exception as error:  # what the reader of some format raises on damaged files can be anything
        reason = " ".join(str(error).split())
        report.error = f"{images[0]} or another channel of its case cannot be read ({reason}); correct the files."
        return report
    values = {index: constant_value(channel) for index, channel in enumerate(data)}
    report.constant = {index: value for index, value in values.items() if value is not None}
    return report


def _check_pairing(cases: Sequence[Case], layout: BranchLayout, folder: Path) -> None:
    wrong = [case for case in cases if not case.branches or (not layout.is_paired and len(case.branches) > 1)]
    if wrong:
        found = [f"{case.identifier} has {' and '.join(case.branches) or 'none'}" for case in wrong]
        examples = ", ".join(found[:5]) + ", ..." * (len(found) > 5)
        expected = "a branch" if layout.is_paired else "exactly one branch"
        remedy = ", or use --pairing paired" if all(case.branches for case in wrong) else ""
        raise InputError(
            f"{folder}: {len(wrong)} of {len(cases)} cases do not have {expected} ({examples}); correct the images"
            f"{remedy}."
        )
    if layout.is_paired and len(layout.branches) > 1 and all(len(case.branches) == 1 for case in cases):
        raise InputError(f"{folder}: every case has one branch only, and the others are blank; use --pairing unpaired.")
    lacking = next((name for name in layout.names if not any(name in case.branches for case in cases)), None)
    if lacking is not None:
        raise InputError(f"{folder}: no case has the branch {lacking}; add cases, or take its channels out.")


def _constant_notices(reports: Sequence[PresenceReport], dataset_json: dict[str, Any]) -> list[str]:
    """Say which absent channels are not zero."""
    notices = []
    for channel, index in channel_indices(dataset_json).items():
        filled = [report for report in reports if report.constant.get(index)]
        if filled:
            value, first = filled[0].constant[index], filled[0].name
            notices.append(
                f"{channel} is {value:g} everywhere in {len(filled)} cases, first {first}: taken as absent; fill "
                "absent channels with 0."
            )
    return notices


def _kept_splits_notices(path: Path, cases: Sequence[Case]) -> list[str]:
    """Say which folds of the splits that are there cannot be trained."""
    every = {branch for case in cases for branch in case.branches}
    try:
        trained = [set(split["train"]) for split in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise InputError(f"{path} is no list of folds; correct it, or remove it for new ones.") from None
    branches = [{branch for case in cases if case.identifier in names for branch in case.branches} for names in trained]
    lacking = [str(fold) for fold, found in enumerate(branches) if found != every]
    if not lacking:
        return [f"{path} is kept."]
    return [
        f"{path} is kept, but the training part of fold {', '.join(lacking)} lacks a branch; remove it for new ones."
    ]


def _write_splits(folder: Path, cases: Sequence[Case], folds: int) -> list[str]:
    try:
        splits, notices = make_splits(cases, folds)
    except InputError as error:
        return [f"there is no splits_final.json: {error}"]
    _write_json(folder / "splits_final.json", splits)
    return notices


def _write_json(path: Path, content: Any) -> None:
    try:
        with new_file(path) as file:
            file.write_text(json.dumps(content, indent=4), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); free space, or mend the permissions.") from None


def _stale_notices(folder: Path) -> list[str]:
    """Warn of what nnU-Net derived from the data set before: its planner ends on splits that differ."""
    preprocessed = Path(os.environ.get("nnUNet_preprocessed", ""), folder.name)
    if not os.environ.get("nnUNet_preprocessed") or not preprocessed.exists():
        return []
    splits = preprocessed / "splits_final.json"
    command = f"rl_nnunet_plan_and_preprocess -d {int(folder.name[7:10])} --clean"
    remedy = f"remove {splits}, then " * splits.exists()
    return [f"{preprocessed} knows nothing of these branches; {remedy}plan and preprocess again ({command})."]
