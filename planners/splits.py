"""Whether the folds of a data set are made of its cases.

nnU-Net's planner copies ``splits_final.json`` from the raw data if there is none beside the preprocessed data, and
stops with a bare assertion where the two differ. A fold that names a case which is gone fails when it is trained.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from rl_nnunet.errors import InputError

SPLITS_FILE = "splits_final.json"


def check_splits(raw_folder: Path, preprocessed_folder: Path, cases: Collection[str]) -> None:
    """Refuse folds of cases that are gone; say which cases are in no fold.

    Parameters
    ----------
    raw_folder, preprocessed_folder : Path
        The data set in ``nnUNet_raw`` and in ``nnUNet_preprocessed``; either may have no splits.
    cases : collection of str
        The training cases.

    Raises
    ------
    InputError
        If a file is no list of folds, names a case that does not exist, or differs from the other one.
    """
    files = [folder / SPLITS_FILE for folder in (raw_folder, preprocessed_folder)]
    folds = {file: _read_folds(file) for file in files if file.is_file()}
    for file, pairs in folds.items():
        _check_cases(file, pairs, cases)
    if len(folds) == 2:
        given, used = folds.values()
        if used[: len(given)] != given:
            raise InputError(
                f"{files[1]} and {files[0]} have different folds; remove the first to train on those of the data set "
                "(models trained on the others cannot be compared), or the second to keep the others."
            )


def _read_folds(file: Path) -> list[tuple[set[str], set[str]]]:
    try:
        folds = [(set(fold["train"]), set(fold["val"])) for fold in json.loads(file.read_text(encoding="utf-8"))]
        are_names = all(isinstance(case, str) for fold in folds for part in fold for case in part)
    except (ValueError, TypeError, KeyError):
        are_names = False
    if not are_names:
        raise InputError(
            f'{file} is not a list of folds, each with the names of its cases under "train" and "val"; remove it, and '
            "nnU-Net makes a new one."
        )
    return folds


def _check_cases(file: Path, folds: list[tuple[set[str], set[str]]], cases: Collection[str]) -> None:
    named = {case for fold in folds for part in fold for case in part}
    gone, unused = sorted(named.difference(cases)), sorted(set(cases) - named)
    if gone:
        raise InputError(
            f"{file} names {len(gone)} case{'s' * (len(gone) > 1)} that the data set does not have, first {gone[0]}; "
            "remove it, and the folds are those of the data set, or new ones."
        )
    if unused:
        print(
            f"Notice: {len(unused)} case{'s' * (len(unused) > 1)} of the data set, first {unused[0]}, "
            f"{'are' if len(unused) > 1 else 'is'} in no fold of {file}; remove it, and new folds are made."
        )
