"""``cases.csv`` beside ``dataset.json``: what is known of the cases of a data set beyond their files.

The table is comma-separated UTF-8 with a header and one row a case, of training and test cases alike. Its columns are
``case`` (nnU-Net's case identifier, each once), ``patient`` (equal for all cases of one patient) and ``part`` ("train"
or "test"), in any order, and any others: the details, such as ``grade``, which are empty where they are unknown. A data
set of whose cases nothing else is known has no table. No detail is a formula to a spreadsheet program: whoever takes
details from elsewhere asks `is_formula`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rl_nnunet.errors import InputError

CASE_TABLE = "cases.csv"
COLUMNS = ("case", "patient", "part")
PARTS = ("train", "test")
# What starts like this is run by spreadsheet programs, unless it is a number.
FORMULA_STARTS = ("=", "+", "-", "@")


@dataclass(frozen=True)
class TableRow:
    """What the table tells of one case: `part` is "train" or "test", a detail is empty where it is unknown."""

    case: str
    patient: str
    part: Literal["train", "test"]
    details: dict[str, str]


def write_case_table(path: Path, rows: Sequence[TableRow]) -> None:
    """Write a table; its details are those of all rows, in the order in which they first occur."""
    details = dict.fromkeys(name for row in rows for name in row.details)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*COLUMNS, *details], restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({"case": row.case, "patient": row.patient, "part": row.part, **row.details} for row in rows)


def read_case_table(path: Path) -> list[TableRow]:
    """Read a table.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column or a value, names a case twice, or a part that does not exist.
    """
    remedy = "convert the data set anew, or correct it"
    records = read_records(path, remedy)
    if not records:
        raise InputError(f"{path} has no rows; {remedy}.")
    lacking = next((column for column in COLUMNS if column not in records[0]), None)
    if lacking is not None:
        raise InputError(f"{path} has no column {lacking}, only {', '.join(map(str, records[0]))}; {remedy}.")
    rows: dict[str, TableRow] = {}
    for number, record in enumerate(records, start=2):
        if None in record or None in record.values():
            raise InputError(f"{path}: row {number} has not as many values as there are columns; {remedy}.")
        case, patient, part = (record.pop(column) for column in COLUMNS)
        if case in rows:
            raise InputError(f"{path} names the case {case} twice; remove one of the rows.")
        if part not in PARTS:
            raise InputError(f"{path} states {part!r} as the part of {case}; write {' or '.join(PARTS)}.")
        rows[case] = TableRow(case, patient, part, record)
    return list(rows.values())


def read_patients(folder: Path, cases: Iterable[str], remedy: str) -> dict[str, str]:
    """Return the patient of every case, where training has to know who has several scans.

    Parameters
    ----------
    folder : Path
        The one with the table.
    cases : iterable of str
        The cases that need a patient.
    remedy : str
        What to do if there is no such table.

    Raises
    ------
    InputError
        If there is none, it cannot be read, or lacks a case.
    """
    path = folder / CASE_TABLE
    if not path.is_file():
        raise InputError(f"There is no {path}, which says which scans are of one patient; {remedy}.")
    patients = {row.case: row.patient for row in read_case_table(path)}
    lacking = next((case for case in cases if case not in patients), None)
    if lacking is not None:
        raise InputError(f"{path} does not say whose scan {lacking} is; {remedy}.")
    return patients


def read_records(path: Path, remedy: str) -> list[dict[str, str]]:
    """Read any comma-separated table with a header: a dict a row.

    Where rows are longer or shorter than the header, there is a key or a value None, as `csv.DictReader` has it.

    Raises
    ------
    InputError
        If it cannot be read; the sentence ends with the remedy.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as a table ({reason}); {remedy}.") from None


def is_formula(text: str) -> bool:
    """Tell whether a spreadsheet program would take a text for a formula; negative numbers are none.

    These programs drop blanks, tabs and line breaks in front.
    """
    text = text.lstrip()
    return text.startswith(FORMULA_STARTS) and re.fullmatch(r"[+-]?[0-9.]+", text) is None
