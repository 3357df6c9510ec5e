"""``classification.csv`` beside ``dataset.json``: the class of every case.

A classification data set is one in nnU-Net's raw format with this table. It has a header and a row a case, with the
columns ``case`` (nnU-Net's case identifier, each once), ``label`` (the name of the class) and, if there is one,
``split`` ("train" or "test"; train where it is empty). The separator is a comma, semicolon or tab; other columns do not
matter.

The names of the classes and their order stand in ``dataset.json`` under our key, as ``"classes": ["short", "long"]``.
Without, they are the labels in alphabetical order, numbers by their size.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rl_nnunet.branches import DATASET_JSON_KEY
from rl_nnunet.errors import InputError

CLASS_TABLE = "classification.csv"
COLUMNS = ("case", "label")
SPLITS = ("train", "test")
SEPARATORS = (",", ";", "\t")
CLASSES_KEY = "classes"


@dataclass(frozen=True)
class ClassRow:
    """One row: a case, the name of its class, and whether it is one to train on."""

    case: str
    label: str
    split: Literal["train", "test"] = "train"


@dataclass(frozen=True)
class ClassLabels:
    """The classes of a data set.

    Parameters
    ----------
    names : tuple of str
        Names of the classes; the position is the number that networks and losses see.
    labels : dict of str to int
        Class of every training case.
    """

    names: tuple[str, ...]
    labels: dict[str, int]


def write_class_table(path: Path, rows: Sequence[ClassRow]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((*COLUMNS, "split"))
        table.writerows((row.case, row.label, row.split) for row in rows)


def read_class_table(path: Path) -> list[ClassRow]:
    """Read a table, with or without a byte-order mark.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column or a value, names a case twice, or a split that does not exist.
    """
    rows: dict[str, ClassRow] = {}
    for number, record in enumerate(read_records(path, COLUMNS), start=2):
        case, label = (record[column] for column in COLUMNS)
        split = record.get("split", "") or SPLITS[0]
        if not case:
            raise InputError(f"{path}: row {number} names no case; complete or remove it.")
        if not label:
            raise InputError(f"{path} states no label of the case {case}; complete or remove its row.")
        if split not in SPLITS:
            raise InputError(f"{path} states {split!r} as the split of {case}; write {' or '.join(SPLITS)}.")
        if case in rows:
            raise InputError(f"{path} names the case {case} twice; remove one of the rows.")
        rows[case] = ClassRow(case, label, split)
    if not rows:
        raise InputError(f"{path} has no rows; write one for each case.")
    return list(rows.values())


def read_records(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table of any of `SEPARATORS`, by the header's names in lower case, without blanks around.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or has a row of another length.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"There is no {path}; a classification data set has this table of its cases, with the columns "
            f"{' and '.join(columns)}."
        ) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as a table ({reason}); save it as UTF-8.") from None
    lines = text.splitlines()
    header = lines[0] if lines else ""
    table = csv.DictReader(io.StringIO(text), delimiter=max(SEPARATORS, key=header.count))
    table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
    lacking = next((column for column in columns if column not in table.fieldnames), None)
    if lacking is not None:
        raise InputError(
            f"{path} has no column {lacking}, only {', '.join(map(repr, table.fieldnames))}; its first line must name "
            "the columns, separated by commas, semicolons or tabs."
        )
    try:
        records = list(table)
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table ({error}); save it anew.") from None
    for number, record in enumerate(records, start=2):
        if None in record or None in record.values():
            raise InputError(f"{path}: row {number} has not as many values as there are columns; correct it.")
    return [{name: value.strip() for name, value in record.items()} for record in records]


def class_names(rows: Sequence[ClassRow], dataset_json: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return the names of the classes in their order.

    Parameters
    ----------
    rows : sequence of ClassRow
        The table.
    dataset_json : mapping
        The data set's description.
    path : Path
        Of the table, for sentences.

    Raises
    ------
    InputError
        If the names of ``dataset.json`` cannot be used, or do not have a label of the table.
    """
    entry = dataset_json.get(DATASET_JSON_KEY)
    stated = entry.get(CLASSES_KEY) if isinstance(entry, Mapping) else None
    if stated is None:
        return tuple(sorted({row.label for row in rows}, key=_by_size))
    are_names = isinstance(stated, list) and all(isinstance(name, str) and name.strip() for name in stated)
    if not are_names or len(set(stated)) < len(stated):
        raise InputError(
            f'dataset.json: "{CLASSES_KEY}" under "{DATASET_JSON_KEY}" must be a list of different names, not '
            f"{stated!r}."
        )
    unknown = next((row for row in rows if row.label not in stated), None)
    if unknown is not None:
        raise InputError(
            f"{path} states {unknown.label!r} as the label of {unknown.case}, but the classes of dataset.json are "
            f"{', '.join(stated)}; correct one of them."
        )
    return tuple(stated)


def _by_size(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


def read_classes(folder: Path, dataset_json: Mapping[str, Any], cases: Collection[str]) -> ClassLabels:
    """Return the classes of a data set, and that of each of its training cases.

    Parameters
    ----------
    folder : Path
        Where the table is: the data set in ``nnUNet_raw`` or ``nnUNet_preprocessed``.
    dataset_json : mapping
        The data set's description.
    cases : collection of str
        The training cases that have images.

    Raises
    ------
    InputError
        If the table cannot be used, a case has no label or a label no case, or there are not two classes.
    """
    path = folder / CLASS_TABLE
    rows = read_class_table(path)
    names = class_names(rows, dataset_json, path)
    labels = {row.case: names.index(row.label) for row in rows if row.split == "train"}
    without_label, without_case = sorted(set(cases) - labels.keys()), sorted(labels.keys() - set(cases))
    if without_label:
        raise InputError(
            f"{path} has no label of {_count(without_label)}; add a row, or remove the images and plan again."
        )
    if without_case:
        raise InputError(
            f"{path} labels {_count(without_case)}, but there are no images of that name among the training cases; "
            "correct the name, remove the row, or write test as its split."
        )
    empty = [name for number, name in enumerate(names) if number not in labels.values()]
    if len(names) - len(empty) < 2:
        only = next((name for name in names if name not in empty), "none")
        raise InputError(f"{path}: all training cases have one class, {only}; a classifier needs two at least.")
    if empty:
        raise InputError(
            f"{path}: no training case has the class {empty[0]}; add cases, or take it out of dataset.json."
        )
    return ClassLabels(names, labels)


def _count(cases: Sequence[str]) -> str:
    return f"{len(cases)} case{'s' * (len(cases) > 1)}, first {cases[0]}"
