"""``rl_nnunet_add_branches``: say which branches the channels of an existing data set form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from rl_nnunet.branches import DATASET_JSON_KEY, Pairing, describe_branches, layout_from_dataset_json, read_dataset_json
from rl_nnunet.command_line import add_processes_argument, make_parser, whole_number
from rl_nnunet.dataset_conversion.command_line import add_folds_argument
from rl_nnunet.dataset_conversion.general_options import split_branch
from rl_nnunet.environment import data_folder
from rl_nnunet.errors import InputError, run_command

EXAMPLE = """example:
  rl_nnunet_add_branches -d 502 --branch CT=CT --branch MRI=MRI --pairing unpaired
"""


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    folder = find_dataset(arguments.dataset_id)
    dataset_json = read_description(folder / "dataset.json")
    if DATASET_JSON_KEY in dataset_json and not arguments.overwrite:
        raise InputError(f"{folder / 'dataset.json'} describes branches already; add --overwrite to replace them.")
    dataset_json[DATASET_JSON_KEY] = describe_branches(parse_branches(arguments.branch), arguments.pairing)
    # Refuses channels that do not exist, or are not used once.
    layout_from_dataset_json(dataset_json)

    from rl_nnunet.dataset_conversion.existing_dataset import record_branches

    record_branches(folder, dataset_json, arguments.folds, arguments.processes)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_add_branches",
        "Say in the dataset.json of an existing data set which branches its channels form, after a look at its images.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-d", dest="dataset_id", type=whole_number(1), required=True, metavar="ID", help="data set ID in nnUNet_raw"
    )
    parser.add_argument(
        "--branch",
        action="append",
        required=True,
        metavar="NAME=CHANNEL[,CHANNEL...]",
        help="a branch and its channels, by their names in dataset.json; repeat the option for every branch",
    )
    parser.add_argument(
        "--pairing",
        choices=get_args(Pairing),
        required=True,
        help="paired: the cases have all branches, on one grid; unpaired: each case has one, and the others are zero; "
        "unregistered: unpaired, and cases.csv beside dataset.json says which cases are of one patient",
    )
    add_folds_argument(parser, ", if the data set has no splits_final.json yet")
    add_processes_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the branches that dataset.json describes")
    return parser


def find_dataset(dataset_id: int) -> Path:
    """Return the folder of a data set in ``nnUNet_raw``.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    raw = data_folder("nnUNet_raw")
    found = sorted(path for path in raw.glob(f"Dataset{dataset_id:03d}_*") if path.is_dir())
    if not found:
        raise InputError(f"{raw} holds no folder Dataset{dataset_id:03d}_...; correct -d, or nnUNet_raw.")
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1].name} have the same ID; remove or rename one.")
    return found[0]


def read_description(path: Path) -> dict[str, Any]:
    """Return the content of ``dataset.json``.

    Raises
    ------
    InputError
        If it cannot be read, or lacks what nnU-Net needs to find the images.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; nnU-Net needs it, too.")
    content = read_dataset_json(path)
    channels = content.get("channel_names", content.get("modality"))
    usable = isinstance(content.get("file_ending"), str) and isinstance(channels, dict) and len(channels) > 0
    if not usable or sorted(channels) != sorted(str(index) for index in range(len(channels))):
        raise InputError(f"{path} is no dataset.json with file_ending and channel_names 0, 1, 2, ...; correct it.")
    return content


def parse_branches(entries: list[str]) -> dict[str, tuple[str, ...]]:
    """Read ``NAME=CHANNEL[,CHANNEL...]`` entries.

    Raises
    ------
    InputError
        If an entry is malformed, or a name is given twice.
    """
    branches: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        name, channels = split_branch(entry, "--branch", "NAME=CHANNEL,CHANNEL...")
        if name in branches:
            raise InputError(f"--branch: {name} is given twice; give all its channels at once.")
        branches[name] = tuple(channels.split(","))
    return branches
