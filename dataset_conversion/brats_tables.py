"""The tables of BraTS 2018 to 2020: survival, age, extent of resection, and grade."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from rl_nnunet.case_table import is_formula, read_records
from rl_nnunet.dataset_conversion.brats import BratsYear
from rl_nnunet.dataset_conversion.brats_cases import GRADES
from rl_nnunet.errors import InputError

COLUMNS = ("grade", "age", "survival_days", "survival_censored", "resection")
UNKNOWN = ("", "-", "na", "nan", "n/a")


def read_tables(paths: Iterable[Path], year: BratsYear, cases: Container[str]) -> dict[str, dict[str, str]]:
    """Return what the tables tell: per name of a case (in lower case), text per entry of `COLUMNS`, as far as known.

    Parameters
    ----------
    paths : iterable of Path
        The tables.
    year : BratsYear
        The year that they belong to.
    cases : container of str
        The names of the cases, in lower case; rows on others are ignored.

    Raises
    ------
    InputError
        If a table cannot be read, lacks the names of the cases, holds a value that is not understood, or contradicts
        another one.
    """
    known: dict[str, dict[str, str]] = {}
    for path in paths if year.name_column else ():
        for name, row in _rows(path, year):
            if name.lower() not in cases:
                continue
            details = known.setdefault(name.lower(), {})
            for column, value in _understand(row, path, name).items():
                if details.setdefault(column, value) != value:
                    raise InputError(
                        f"{path} states {value} as the {column} of {name}, but {details[column]} is stated, too; "
                        "correct one."
                    )
    return known


def _rows(path: Path, year: BratsYear) -> list[tuple[str, dict[str, str]]]:
    """Return the name and the row of every case; columns in lower case."""
    rows = [
        {(key or "").strip().lower(): value.strip() for key, value in record.items() if isinstance(value, str)}
        for record in read_records(path, "fetch it again, or remove it")
    ]
    column = year.mapping_column if path.name.lower().startswith("name_mapping") else year.name_column
    if not rows or column not in rows[0]:
        raise InputError(
            f"{path} has no column {column} (in any case), which names the cases of BraTS {year.year}; fetch it again, "
            "or remove it."
        )
    return [(row[column], row) for row in rows if row.get(column)]


def _understand(row: dict[str, str], path: Path, name: str) -> dict[str, str]:
    """Return what a row tells about its case."""
    readers: dict[str, tuple[str, Callable[[str], dict[str, str] | None]]] = {
        "grade": ("grade", _grade),
        "age": ("age", _age),
        "survival": ("survival", survival),
        "survival_days": ("survival", survival),
        "resectionstatus": ("resection", lambda text: {"resection": text}),
        "extent_of_resection": ("resection", lambda text: {"resection": text}),
    }
    details: dict[str, str] = {}
    for column, (meaning, read) in readers.items():
        text = row.get(column, "")
        if text.lower() in UNKNOWN:
            continue
        value = None if is_formula(text) else read(text)
        if value is None:
            raise InputError(
                f"{path} states {text!r} as the {meaning} of {name}, which is not understood; correct or empty it."
            )
        details |= value
    return details


def _grade(text: str) -> dict[str, str] | None:
    return {"grade": text.upper()} if text.upper() in GRADES else None


def _age(text: str) -> dict[str, str] | None:
    try:
        return {"age": text} if 0 <= float(text) < math.inf else None
    except ValueError:
        return None


def survival(text: str) -> dict[str, str] | None:
    """Read days of survival: ``361``, or ``ALIVE (361 days later)`` for patients that were alive after 361 days.

    Returns
    -------
    dict or None
        ``survival_days`` and ``survival_censored``, or None if the text is something else.
    """
    match = re.fullmatch(
        r"(?P<alive>alive\s*\()?(?P<days>\d+)(\.0+)?(?(alive)\s*days\s+later\s*\))", text, re.IGNORECASE
    )
    if match is None:
        return None
    return {"survival_days": match["days"], "survival_censored": str(match["alive"] is not None)}
