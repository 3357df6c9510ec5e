"""``rl_nnunet_convert_brats_predictions``: give predictions the label values of BraTS."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rl_nnunet.branches import DATASET_JSON_KEY, ORIENTATION_KEY
from rl_nnunet.command_line import add_run_arguments, make_parser, path_argument
from rl_nnunet.dataset_conversion.brats import YEAR_KEY, YEARS, BratsYear
from rl_nnunet.errors import InputError, run_command

FILE_ENDING = ".nii.gz"


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    predictions = find_predictions(arguments.input)
    record = _read_record(arguments.input)
    year = choose_year(record, arguments.year, arguments.input)
    output = arguments.output

    from rl_nnunet.dataset_conversion.brats_predictions import write_predictions

    print(write_predictions(predictions, output, year, arguments.processes, overwrite=arguments.overwrite))
    if record.get(ORIENTATION_KEY, "keep") != "keep":
        print(
            f"Notice: the data set was converted with --orientation {record[ORIENTATION_KEY]}, which is the axis order "
            "of predictions of its images, too; reorient them before you compare them voxel by voxel with files of "
            "BraTS."
        )
    print(f"Written: {output}")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_brats_predictions",
        "Give predictions of a data set that rl_nnunet_convert_brats wrote the label values of BraTS.",
    )
    parser.add_argument(
        "-i",
        dest="input",
        type=path_argument,
        required=True,
        metavar="PREDICTIONS",
        help="output folder of nnUNetv2_predict",
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=path_argument,
        required=True,
        metavar="OUTPUT",
        help="folder to write; must not exist yet",
    )
    parser.add_argument(
        "--year",
        type=int,
        choices=tuple(YEARS),
        help="year of BraTS (default: as in the dataset.json that nnUNetv2_predict puts beside its predictions)",
    )
    add_run_arguments(parser, "output folder")
    return parser


def find_predictions(folder: Path) -> list[Path]:
    """Return the predictions in a folder.

    Raises
    ------
    InputError
        If there is no such folder, or no prediction in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; -i is the output folder of nnUNetv2_predict.")
    found = sorted(path for path in folder.glob(f"[!.]*{FILE_ENDING}"))
    other = next((path for path in found if not path.is_file()), None)
    if other is not None:
        raise InputError(f"{other} is no file; -i is the output folder of nnUNetv2_predict.")
    if not found:
        raise InputError(f"{folder} holds no {FILE_ENDING} file; -i is the output folder of nnUNetv2_predict.")
    return found


def _read_record(folder: Path) -> dict[str, Any]:
    """Return what the converter recorded in ``dataset.json``; nothing if there is no such file."""
    path = folder / "dataset.json"
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8")).get(DATASET_JSON_KEY, {})
    except (OSError, ValueError, AttributeError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise InputError(
            f"{path} cannot be read; copy it anew from the folder of the model, or remove it and add --year."
        )
    return record


def choose_year(record: dict[str, Any], asked: int | None, folder: Path) -> BratsYear:
    """Return the year that the data set was converted from.

    Parameters
    ----------
    record : dict
        What the converter recorded in ``dataset.json``.
    asked : int, optional
        The year stated by the user.
    folder : Path
        The folder of the predictions.

    Raises
    ------
    InputError
        If the year is neither recorded nor stated, both differ, or it is unknown.
    """
    recorded = record.get(YEAR_KEY)
    if recorded is None and asked is None:
        raise InputError(f"{folder} has no dataset.json that records the year of BraTS; add --year.")
    year = asked if recorded is None else recorded
    if not isinstance(year, int) or year not in YEARS:
        raise InputError(
            f"{folder / 'dataset.json'} records BraTS {recorded!r}; known are {', '.join(map(str, YEARS))}: correct it."
        )
    if asked not in (None, year):
        raise InputError(
            f"--year {asked}: {folder / 'dataset.json'} records BraTS {year}; correct --year, or leave it out."
        )
    return YEARS[year]
