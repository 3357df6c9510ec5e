"""What the converters' command lines share. Only the standard library: ``--help`` must answer at once."""

from __future__ import annotations

import argparse

from rl_nnunet.command_line import ORIENTATIONS, add_run_arguments, whole_number


def add_output_arguments(
    parser: argparse.ArgumentParser, default_name: str | None = None, default_orientation: str = "LPS"
) -> None:
    """Add the options on the data set to be written: ``-d``, ``-n``, ``--orientation``, ``-np``, ``--overwrite``."""
    parser.add_argument(
        "-d", dest="dataset_id", type=int, required=True, metavar="ID", help="data set ID, from 1 to 999"
    )
    parser.add_argument(
        "-n",
        dest="name",
        required=default_name is None,
        default=default_name,
        metavar="NAME",
        help="data set name, without ID" + (f" (default: {default_name})" if default_name else ""),
    )
    parser.add_argument(
        "--orientation",
        choices=ORIENTATIONS,
        default=default_orientation,
        help="axis order and direction that all images get; nnU-Net itself does not look at it (default: %(default)s). "
        + (
            "Choose keep for stacks of thick slices at an angle to the body, such as cardiac short-axis images"
            if default_orientation != "keep"
            else "With keep, predictions lie on the grid of the original images"
        ),
    )
    add_run_arguments(parser, "data set")


def add_folds_argument(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Add ``--folds``, whose help ends with a condition on when it counts."""
    parser.add_argument(
        "--folds",
        type=whole_number(2),
        default=5,
        metavar="N",
        help=f"folds of the cross-validation{condition} (default: %(default)s)",
    )
