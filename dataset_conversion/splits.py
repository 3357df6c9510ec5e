"""Folds of the cross-validation that can all be trained: the training part of each has every branch."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

from sklearn.model_selection import StratifiedGroupKFold

from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.errors import InputError

SPLIT_SEED = 12345
# Where patients have several branches, a draw may put all patients of a branch into one validation part.
DRAWS = 20

Split = dict[str, list[str]]


def make_splits(training: Sequence[Case], folds: int) -> tuple[list[Split], list[str]]:
    """Split the training cases for cross-validation, stratified by stratum or branch and grouped by patient.

    The training part of every fold has every branch. So the only patient of a branch is in all of them, and never
    validated; a branch of fewer patients than there are folds is missing in some validation parts. Strata that are all
    smaller than the number of folds are given up for the branches.

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

    Raises
    ------
    InputError
        If no patient can be validated.
    """
    training = sorted(training, key=lambda case: case.identifier)
    patients = _patients_per_branch(training)
    kept = {next(iter(names)) for names in patients.values() if len(names) == 1}
    movable = [case for case in training if case.patient not in kept]
    if not movable:
        raise InputError(
            f"{len(kept)} labeled patients cannot be split into folds; add patients until one branch has two."
        )
    possible = min(folds, max(map(len, _patients_per_branch(movable).values())))
    strata, notices = _choose_strata(movable, possible)
    splits = [_split(training, validated) for validated in _best_draw(movable, strata, possible, training)]
    if len(splits) < folds:
        notices.append(f"only {_count_folds(splits)} instead of {folds}, as no branch has patients for more.")
    return splits, notices + _branch_notices(training, splits, patients)


def _patients_per_branch(cases: Sequence[Case]) -> dict[str, set[str]]:
    patients: dict[str, set[str]] = {}
    for case in cases:
        for branch in case.branches:
            patients.setdefault(branch, set()).add(case.patient)
    return patients


def _choose_strata(cases: Sequence[Case], folds: int) -> tuple[list[str], list[str]]:
    """Return the stratum of every case, and a notice if the strata that the cases state cannot be used."""
    stated = [case.group for case in cases]
    branches = ["+".join(case.branches) for case in cases]
    everything = [""] * len(cases)
    strata = next(strata for strata in (stated, branches, everything) if max(map(strata.count, strata)) >= folds)
    if strata == stated:
        return strata, []
    names = " and ".join(sorted(set(stated)))
    return strata, [f"the folds are not balanced between {names}, because none of them has {folds} cases."]


def _best_draw(movable: Sequence[Case], strata: Sequence[str], folds: int, training: Sequence[Case]) -> list[set[str]]:
    """Return the patients that each fold validates: of the first draw whose folds can all be trained.

    Draws without strata come last. If there is none, the folds that can be trained of the draw with the most of them.
    """
    if folds == 1:
        return [{case.patient for case in movable}]
    every = set(_patients_per_branch(training))
    best: list[set[str]] = []
    seeds = range(SPLIT_SEED, SPLIT_SEED + DRAWS)
    for draw_strata, seed in itertools.product((strata, [""] * len(movable)), seeds):
        parts = _draw(movable, draw_strata, folds, seed)
        trainable = [part for part in parts if part and _branches_beside(training, part) == every]
        best = max(best, trainable, key=len)
        if len(best) == folds:
            break
    return best


def _draw(movable: Sequence[Case], strata: Sequence[str], folds: int, seed: int) -> list[set[str]]:
    patients = [case.patient for case in movable]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A branch with fewer cases than folds is in the validation part of some folds only: a notice says so.
        warnings.simplefilter("ignore", UserWarning)
        return [{patients[i] for i in validated} for _, validated in splitter.split(movable, strata, patients)]


def _branches_beside(training: Sequence[Case], validated: set[str]) -> set[str]:
    """Return the branches that are left for training."""
    return set(_patients_per_branch([case for case in training if case.patient not in validated]))


def _split(training: Sequence[Case], validated: set[str]) -> Split:
    return {
        "train": [case.identifier for case in training if case.patient not in validated],
        "val": [case.identifier for case in training if case.patient in validated],
    }


def _branch_notices(training: Sequence[Case], splits: Sequence[Split], patients: dict[str, set[str]]) -> list[str]:
    """Say which branches are missing in validation parts."""
    branches = {case.identifier: case.branches for case in training}
    notices = []
    for branch, names in patients.items():
        lacking = sum(not any(branch in branches[name] for name in split["val"]) for split in splits)
        if len(names) == 1:
            notices.append(
                f"{next(iter(names))}, the only patient with {branch}, is in the training part of every fold, so that "
                f"{branch} is never validated."
            )
        elif lacking:
            notices.append(
                f"in {lacking} of {_count_folds(splits)}, the validation part has no case of {branch}, as only "
                f"{len(names)} patients have it."
            )
    return notices


def _count_folds(splits: Sequence[Split]) -> str:
    return f"{len(splits)} fold{'s' * (len(splits) != 1)}"
