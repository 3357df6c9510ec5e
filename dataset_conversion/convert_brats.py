"""``rl_nnunet_convert_brats``: BraTS 2018 to 2024, four MRI sequences of brains with gliomas."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_nnunet.command_line import make_parser, path_argument
from rl_nnunet.dataset_conversion.brats import SEQUENCES, YEAR_KEY, YEARS, BratsYear
from rl_nnunet.dataset_conversion.brats_cases import CaseFolder, common_year, find_case_folders, make_case
from rl_nnunet.dataset_conversion.brats_survival import SURVIVAL_CLASSES, cases_with_survival
from rl_nnunet.dataset_conversion.brats_tables import COLUMNS, read_tables
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.command_line import add_folds_argument, add_output_arguments
from rl_nnunet.dataset_conversion.general_options import BRANCH_NAME
from rl_nnunet.errors import InputError, run_command

# T1 and T1ce differ by the contrast agent, T2 and FLAIR by the suppression of free water.
DEFAULT_BRANCHES = ("T1w=T1+T1ce", "T2w=T2+FLAIR")


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    if arguments.gross_total_resection and arguments.task != "survival":
        raise InputError("--gross_total_resection is an option of --task survival; add it, or leave this out.")
    branches = parse_branches(arguments.branches or DEFAULT_BRANCHES)
    asked = None if arguments.year == "auto" else int(arguments.year)
    year, cases = find_brats_cases(arguments.input, branches, asked)
    if all(case.is_test for case in cases):
        raise InputError(
            f'{arguments.input} holds no training case, as every case, or a folder on the way to it, is called "valid" '
            'or "validation"; -i must hold the training cases, too.'
        )

    from rl_nnunet.dataset_conversion.raw_dataset import RawDataset, write_dataset

    classification: dict[str, Any] = {}
    if arguments.task == "survival":
        cases, rows, notices = cases_with_survival(cases, gross_total_resection_only=arguments.gross_total_resection)
        classification = {"classes": SURVIVAL_CLASSES, "class_rows": rows, "notices": notices}
    dataset = RawDataset(
        arguments.dataset_id,
        arguments.name,
        branches,
        "paired",
        year.labels,
        cases,
        arguments.orientation,
        "rl_nnunet_convert_brats",
        arguments.folds,
        stratified_by="class" if classification else "grade" if any(case.stratum for case in cases) else "branch",
        one_patient_is_enough=True,
        record={YEAR_KEY: year.year},
        **classification,
    )
    write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_brats",
        "Convert BraTS (gliomas in T1, T1ce, T2 and FLAIR), 2018 to 2024, to nnU-Net's raw format.",
    )
    parser.add_argument(
        "-i",
        dest="input",
        type=path_argument,
        required=True,
        metavar="FOLDER",
        help='folder that holds the case folders of one year, at any depth; those with "valid" in their name, or in '
        "that of a folder on the way, become test cases",
    )
    add_output_arguments(parser, default_name="BraTS", default_orientation="keep")
    parser.add_argument(
        "--year",
        choices=["auto", *map(str, YEARS)],
        default="auto",
        help="year of the data; auto tells it from the names of the cases; 2024 takes cases before treatment, named "
        "like those of 2023, along with those after it (default: auto)",
    )
    parser.add_argument(
        "--branches",
        action="extend",
        nargs="+",
        metavar="BRANCH",
        help=f"branches, each as NAME=SEQUENCE+SEQUENCE..., where NAME= may be left out; {', '.join(SEQUENCES)} must "
        f"all be used once (default: {' '.join(DEFAULT_BRANCHES)})",
    )
    parser.add_argument(
        "--task",
        choices=["segmentation", "survival"],
        default="segmentation",
        help="survival: a classification data set of the cases whose survival a table states, short (below 10 months), "
        "mid or long (above 15); all others are named and left out (default: segmentation)",
    )
    parser.add_argument(
        "--gross_total_resection",
        action="store_true",
        help="with --task survival: only training cases with a gross total resection, as BraTS evaluates",
    )
    add_folds_argument(parser)
    return parser


def parse_branches(entries: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read ``[NAME=]SEQUENCE[+SEQUENCE...]`` entries; by default a branch is called like its sequences.

    Raises
    ------
    InputError
        If an entry is malformed, or the branches do not use every sequence exactly once.
    """
    spelling = {sequence.lower(): sequence for sequence in SEQUENCES}
    branches: dict[str, tuple[str, ...]] = {}
    used: list[str] = []
    for entry in entries:
        name, equals, joined = entry.rpartition("=")
        sequences = tuple(spelling.get(part.lower(), part) for part in joined.split("+"))
        unknown = next((part for part in sequences if part not in SEQUENCES), None)
        if unknown is not None:
            raise InputError(
                f"--branches {entry}: there is no sequence {unknown!r}; write NAME=SEQUENCE+SEQUENCE... with "
                f"{', '.join(SEQUENCES)}."
            )
        twice = next((part for part in sequences if part in used or sequences.count(part) > 1), None)
        if twice is not None:
            raise InputError(f"--branches: {twice} is used twice; use each of {', '.join(SEQUENCES)} exactly once.")
        used += sequences
        name = name if equals else "_".join(sequences)
        if not re.fullmatch(BRANCH_NAME, name):
            raise InputError(f"--branches {entry}: a name consists of letters, digits, '_' and '-'.")
        if name in branches:
            raise InputError(f"--branches: the name {name} is given twice; rename one branch.")
        branches[name] = sequences
    if sorted(used) != sorted(SEQUENCES):
        raise InputError(f"--branches: {', '.join(used)} are used; use each of {', '.join(SEQUENCES)} exactly once.")
    return branches


def find_brats_cases(
    folder: Path, branches: dict[str, tuple[str, ...]], asked: int | None = None
) -> tuple[BratsYear, list[Case]]:
    """Find the cases of BraTS, and what its tables tell about them.

    Parameters
    ----------
    folder : Path
        Folder that holds the folders of the cases of one year, at any depth.
    branches : dict of str to tuple of str
        The sequences of every branch.
    asked : int, optional
        The year that the cases must belong to.

    Raises
    ------
    InputError
        If there is no case, a case is incomplete, there are several years, or a table cannot be used.
    """
    folders, tables = find_case_folders(folder)
    year = common_year(folders, asked, folder)
    known = read_tables(tables, year, {place.path.name.lower() for place in folders})
    channels = [sequence for sequences in branches.values() for sequence in sequences]
    found = [(place, make_case(place, channels, list(branches))) for place in folders]
    cases = [_with_details(case, place, known.get(case.identifier.lower(), {})) for place, case in found]
    if any(case.details["grade"] for case in cases):
        cases = [replace(case, stratum=case.details["grade"] or "unknown") for case in cases]
    return year, sorted(cases, key=lambda case: (case.is_test, case.identifier))


def _with_details(case: Case, place: CaseFolder, known: dict[str, str]) -> Case:
    details = {column: known.get(column, "") for column in COLUMNS}
    if place.grade and details["grade"] not in ("", place.grade):
        raise InputError(
            f"{place.path} lies in a folder {place.grade}, but a table states {details['grade']} as its grade; "
            "move the folder, or correct the table."
        )
    return replace(case, details=details | {"grade": details["grade"] or place.grade})
