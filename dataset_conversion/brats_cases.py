"""Finding the cases of BraTS: folders, their year and part, the files in them. Nothing here opens an image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_nnunet.dataset_conversion.brats import MISNAMED_SEGMENTATIONS, SEGMENTATION, SEQUENCES, YEARS, BratsYear
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.errors import InputError

ENDINGS = (".nii.gz", ".nii")
GRADES = ("HGG", "LGG")
# Words of names such as BraTS2021_ValidationData; "invalid" holds none of them.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
VALIDATION_MARK = "valid"
TABLES = (
    "survival_data.csv",
    "survival_info.csv",
    "survival_evaluation.csv",
    "name_mapping.csv",
    "name_mapping_validation_data.csv",
)


@dataclass(frozen=True)
class CaseFolder:
    """The folder of one case.

    Parameters
    ----------
    path : Path
        The folder.
    year : BratsYear
        The year that its name belongs to.
    is_validation : bool
        Whether it, or a folder on the way to it, is called validation (see `_is_validation`).
    grade : str
        "HGG" or "LGG" if a folder on the way is called so, else empty.
    """

    path: Path
    year: BratsYear
    is_validation: bool
    grade: str


def find_case_folders(folder: Path) -> tuple[list[CaseFolder], list[Path]]:
    """Return the folders of cases at any depth below a folder, and the tables that lie on the way.

    Raises
    ------
    InputError
        If there is no such folder, it holds no case, it holds a case twice, or a folder cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; -i is the folder that holds BraTS.")
    # "." has no name, and the name counts.
    folder = Path(os.path.abspath(folder))
    found: list[CaseFolder] = []
    tables: list[Path] = []
    visited: set[str] = set()
    for place, subfolders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        case = _case_folder(folder, Path(place))
        real = os.path.realpath(place)
        if case is not None:
            found.append(case)
        # A link to a folder above would be followed forever.
        if case is not None or real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        tables += [Path(place, name) for name in sorted(files) if name.lower() in TABLES]
        # macOS puts its own files, called like ours, into folders of archives.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
    if not found:
        raise InputError(
            f"{folder} holds no folder that is called like a case of BraTS 2018 to 2024, such as BraTS2021_00000 or "
            "BraTS-GLI-00000-000; check -i."
        )
    _check_unique(found)
    return found, tables


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read ({error.strerror}); check its permissions.")


def _case_folder(root: Path, path: Path) -> CaseFolder | None:
    names = (root.name, *path.relative_to(root).parts)
    year = next((year for year in YEARS.values() if year.case_pattern.fullmatch(names[-1])), None)
    if year is None:
        return None
    is_validation = any(_is_validation(name) for name in names)
    grade = next((name.upper() for name in names if name.upper() in GRADES), "")
    return CaseFolder(path, year, is_validation, grade)


def _is_validation(name: str) -> bool:
    """Tell whether one of the words in a name is "valid", or starts with "validation"."""
    words = [word.lower() for word in WORD.findall(name)]
    return VALIDATION_MARK in words or any(word.startswith("validation") for word in words)


def _check_unique(folders: Sequence[CaseFolder]) -> None:
    first: dict[str, Path] = {}
    for folder in folders:
        other = first.setdefault(folder.path.name.lower(), folder.path)
        if other != folder.path:
            raise InputError(f"{other} and {folder.path} are two folders of one case; remove one of them.")


def common_year(folders: Sequence[CaseFolder], asked: int | None, root: Path) -> BratsYear:
    """Return the year that all cases belong to, or the one asked for if it includes the others.

    Raises
    ------
    InputError
        If they belong to several years, or to another one than asked for.
    """
    examples = {folder.year.year: folder.path.name for folder in folders}
    if len(examples) > 1:
        joint = next((year for year in examples if set(examples) == {year, *YEARS[year].includes}), None)
        if asked is not None and asked == joint:
            return YEARS[joint]
        found = ", ".join(f"{year} ({examples[year]})" for year in sorted(examples))
        remedy = f", or all of them together with --year {joint}" if joint else ""
        raise InputError(f"{root} holds cases of several years, {found}; convert each year by itself{remedy}.")
    (year,) = examples
    if asked not in (None, year):
        raise InputError(
            f"--year {asked}: {root} holds cases of BraTS {year} ({examples[year]}); correct --year, or leave it out."
        )
    return YEARS[year]


def make_case(folder: CaseFolder, channels: Sequence[str], branches: Sequence[str]) -> Case:
    """Return the case of a folder.

    Parameters
    ----------
    folder : CaseFolder
        The folder.
    channels : sequence of str
        The sequences in the order of the channels.
    branches : sequence of str
        Names of the branches, all of which every case has.

    Raises
    ------
    InputError
        If a file is missing, or there twice.
    """
    name, files = folder.path.name, _files(folder)
    for sequence in SEQUENCES:
        if sequence not in files:
            raise InputError(
                f"{folder.path} lacks the sequence {sequence}, {name}{folder.year.suffixes[sequence]}.nii.gz; "
                "add it, or remove the case."
            )
    if SEGMENTATION not in files and not folder.is_validation:
        raise InputError(
            f"{folder.path} has no segmentation, {name}{folder.year.suffixes[SEGMENTATION]}.nii.gz; add it, remove "
            f'the case, or move it to a folder with "{VALIDATION_MARK}" in its name.'
        )
    return Case(
        name,
        tuple(branches),
        folder.year.case_pattern.fullmatch(name)["patient"],
        {index: files[sequence] for index, sequence in enumerate(channels)},
        files.get(SEGMENTATION),
        folder.is_validation,
    )


def _files(folder: CaseFolder) -> dict[str, Path]:
    """Return the files of the sequences and the segmentation, as far as they are there."""
    name = folder.path.name
    stems = {(name + suffix).lower(): kind for kind, suffix in folder.year.suffixes.items()}
    if name.lower() in MISNAMED_SEGMENTATIONS:
        stems[MISNAMED_SEGMENTATIONS[name.lower()]] = SEGMENTATION
    found: dict[str, Path] = {}
    for path in sorted(folder.path.iterdir()):
        ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
        kind = stems.get(path.name.lower().removesuffix(ending)) if ending else None
        file = _file_at(path) if kind else None
        if file is None:
            continue
        other = found.setdefault(kind, file)
        if other != file:
            raise InputError(f"{other} and {file} are two files of one case; remove one of them.")
    return found


def _file_at(path: Path) -> Path | None:
    """Return the file at a path; copies on Kaggle have a folder there, with the file under a name of its own."""
    if path.is_file():
        return path
    inside = [file for file in sorted(path.glob("[!.]*")) if file.name.lower().endswith(ENDINGS) and file.is_file()]
    return inside[0] if len(inside) == 1 else None
