"""Folds of a cross-validation in which every part has every class, in nnU-Net's form (``splits_final.json``)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

from sklearn.model_selection import StratifiedGroupKFold

from rl_nnunet.errors import InputError

SEED = 12345
"""nnU-Net's own."""
DRAWS = 20
"""Where patients have several cases, a draw may leave a part without a class."""
INNER_FOLDS = 5
"""Of what is not tested, a fifth is for choosing the epoch (Zhu et al., section 3.1); more where a class is small."""

Fold = dict[str, list[str]]


def stratified_folds(
    labels: Mapping[str, int], names: tuple[str, ...], folds: int, patients: Mapping[str, str] | None = None
) -> list[Fold]:
    """Return ``{"train": [...], "val": [...]}`` per fold, stratified by class and grouped by patient.

    Parameters
    ----------
    labels : mapping of str to int
        Class of every case.
    names : tuple of str
        Names of the classes.
    folds : int
        Number of folds, at least 2.
    patients : mapping of str to str, optional
        Patient of each case; by default, every case is a patient.

    Raises
    ------
    InputError
        If the patients of a class do not suffice for every part to have one.
    """
    cases = sorted(labels)
    groups = [(patients or {}).get(case, case) for case in cases]
    classes = [labels[case] for case in cases]
    for name, available in zip(names, patients_per_class(labels, names, patients), strict=True):
        if available < folds:
            raise InputError(
                f"The class {name} has {available} patient{'s' * (available != 1)}, which do not suffice for {folds} "
                f"folds; add patients or, where there are two at least, make fewer folds."
            )
    for seed in range(SEED, SEED + DRAWS):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class with fewer cases than folds: looked at above, patient by patient.
            warnings.simplefilter("ignore", UserWarning)
            drawn = [
                {"train": [cases[i] for i in train], "val": [cases[i] for i in held_out]}
                for train, held_out in splitter.split(cases, classes, groups)
            ]
        if all(not lacking_class(part, labels, names) for fold in drawn for part in fold.values()):
            return drawn
    raise InputError(f"The patients cannot be split into {folds} folds that all have every class; make fewer folds.")


def possible_folds(
    labels: Mapping[str, int], names: tuple[str, ...], folds: int, patients: Mapping[str, str] | None = None
) -> tuple[list[Fold], list[str]]:
    """Return `stratified_folds`, or as many of them as there can be, and a notice if they are fewer.

    Patients limit their number: those of the smallest class, and those that have cases of several classes. Where there
    cannot even be two, there are none, which leaves training on all cases. Parameters are those of `stratified_folds`.
    """
    most = min(folds, *patients_per_class(labels, names, patients))
    for possible in range(most, 1, -1):
        with contextlib.suppress(InputError):
            made = stratified_folds(labels, names, possible, patients)
            fewer = f"there are {possible} folds in the place of {folds}, as the patients do not suffice for more."
            return made, [fewer] * (possible < folds)
    return [], [
        "the patients do not suffice for two folds that both have every class; train on all cases instead (fold all)."
    ]


def nested_folds(
    labels: Mapping[str, int], names: tuple[str, ...], folds: int, patients: Mapping[str, str] | None = None
) -> list[Fold]:
    """Return folds with a third part, ``test``: ``val`` is for choosing the epoch, and ``test`` for the result.

    Parameters and errors are those of `stratified_folds`.
    """
    nested = []
    for outer in stratified_folds(labels, names, folds, patients):
        inner_labels = {case: labels[case] for case in outer["train"]}
        inner_folds = min(INNER_FOLDS, *patients_per_class(inner_labels, names, patients))
        inner = stratified_folds(inner_labels, names, max(2, inner_folds), patients)[0]
        nested.append({**inner, "test": outer["val"]})
    return nested


def patients_per_class(
    labels: Mapping[str, int], names: tuple[str, ...], patients: Mapping[str, str] | None = None
) -> list[int]:
    """Return the number of patients of each class; parameters are those of `stratified_folds`."""
    return [
        len({(patients or {}).get(case, case) for case, label in labels.items() if label == number})
        for number in range(len(names))
    ]


def lacking_class(cases: Any, labels: Mapping[str, int], names: tuple[str, ...]) -> str | None:
    """Return the name of a class that none of some cases has; None if there is no such class."""
    there = {labels[case] for case in cases}
    return next((name for number, name in enumerate(names) if number not in there), None)
