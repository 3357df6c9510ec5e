"""The command ``rl_nnunet_make_phantom``: writes a phantom data set in the layout of the public one it stands for.

Everything that takes time to import is imported after the arguments are parsed.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rl_nnunet.command_line import make_parser, path_argument, text_table
from rl_nnunet.errors import InputError, run_command
from rl_nnunet.phantoms.head.config import SEQUENCES, HeadPhantomConfig
from rl_nnunet.phantoms.head.dataset import write_head_dataset
from rl_nnunet.phantoms.head.layout import MISNAMED_NUMBER, YEARS
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.dataset import ROTATIONS_FILE, write_heart_dataset

if TYPE_CHECKING:
    from rl_nnunet.phantoms.head.write import WrittenHeadCase
    from rl_nnunet.phantoms.heart.write import WrittenHeartCase

# Case numbers leave room for this many; in BraTS 2020, the last number is given.
MOST_CASES = 999
SMALLEST_SIZE, LARGEST_SIZE = 16, 1024
# The options that one kind of phantom alone has. They get their defaults after the arguments are parsed, so that their
# use with another kind is noticed.
OPTIONS_OF_KIND = {
    "heart": ("noise", "paired", "paired_test", "rotate_mr"),
    "brats": ("year", "noise_sequence"),
}
DEFAULTS_OF_KIND = {
    "heart": {"size": HeartPhantomConfig.size, "noise": HeartPhantomConfig.mr_noise},
    "brats": {"size": HeadPhantomConfig.size, "year": 2021},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; the entry point."""
    arguments = _parser().parse_args(argv)
    # A polite kill ends like an error, so that it cleans up, too.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run_command(lambda: _make(arguments))
    finally:
        # Workers that somebody forks later would inherit it, and miss the signal that is to end them.
        signal.signal(signal.SIGTERM, previous)


def _make(arguments: argparse.Namespace) -> None:
    _check_kind(arguments)
    _fill_defaults(arguments)
    _check(arguments)
    start = time.perf_counter()
    written = (_make_brats if arguments.kind == "brats" else _make_hearts)(arguments)
    print(_summary(written))
    print(f"{len(written)} cases written to {arguments.output} in {time.perf_counter() - start:.1f} s")


def _make_hearts(arguments: argparse.Namespace) -> list[WrittenHeartCase]:
    return write_heart_dataset(
        arguments.output,
        arguments.cases,
        arguments.test_cases,
        arguments.seed,
        replace(HeartPhantomConfig(), size=arguments.size, mr_noise=arguments.noise),
        paired=bool(arguments.paired),
        paired_test=bool(arguments.paired_test),
        rotate_mr=bool(arguments.rotate_mr),
        test_labels=arguments.test_labels,
        processes=arguments.processes,
        overwrite=arguments.overwrite,
    )


def _make_brats(arguments: argparse.Namespace) -> list[WrittenHeadCase]:
    return write_head_dataset(
        arguments.output,
        arguments.year,
        arguments.cases,
        arguments.test_cases,
        arguments.seed,
        replace(HeadPhantomConfig(), size=arguments.size),
        test_labels=arguments.test_labels,
        noise_sequence=arguments.noise_sequence,
        processes=arguments.processes,
        overwrite=arguments.overwrite,
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_make_phantom",
        "Writes a synthetic data set with exact labels: phantom hearts in CT and MR, as MM-WHS 2017 "
        "ships its own (ct_train, mr_train, ct_test, mr_test), or phantom heads with tumors in four MR sequences, as "
        "a year of BraTS ships its own.",
    )
    add = parser.add_argument
    add("kind", nargs="?", default="heart", choices=list(OPTIONS_OF_KIND), help="what to make (default: heart)")
    add("-o", "--output", required=True, type=path_argument, metavar="FOLDER", help="folder to write")
    add("--cases", type=int, default=20, metavar="N", help="labeled cases; heart: per modality (default: 20)")
    add("--test_cases", type=int, default=4, metavar="N", help="unlabeled cases; heart: per modality (default: 4)")
    add(
        "--size",
        type=int,
        metavar="VOXELS",
        help="voxels along the longest axis (heart: of a CT); the field of view stays the same "
        f"(default: {DEFAULTS_OF_KIND['heart']['size']})",
    )
    add("--seed", type=int, default=0, help="same seed, same images (default: 0)")
    add("--test_labels", action="store_true", help="write the labels of the test cases beside their images, too")
    add(
        "-np",
        dest="processes",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace a phantom that is there, if the folder holds nothing else")
    _add_of_hearts(parser.add_argument_group("heart only"))
    _add_of_brats(parser.add_argument_group("brats only"))
    return parser


def _add_of_hearts(group: argparse._ArgumentGroup) -> None:
    switch = {"action": "store_true", "default": None}
    group.add_argument(
        "--noise",
        type=float,
        metavar="SD",
        help=f"SD of the noise of the MR; blood is about 450 to 600 (default: {DEFAULTS_OF_KIND['heart']['noise']})",
    )
    group.add_argument("--paired", **switch, help="CT and MR of one number show the same heart")
    group.add_argument(
        "--paired_test", **switch, help="CT and MR of one number show the same heart in the test cases only"
    )
    group.add_argument(
        "--rotate_mr",
        **switch,
        help="with --paired: turn the content of every MR by a random rotation of the cube, which its header does "
        f"not tell but {ROTATIONS_FILE} does; no volume is stored in another orientation then",
    )


def _add_of_brats(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--year",
        type=int,
        choices=YEARS,
        help=f"whose layout and labels to write (default: {DEFAULTS_OF_KIND['brats']['year']})",
    )
    group.add_argument(
        "--noise_sequence",
        choices=SEQUENCES,
        help="this sequence is nothing but noise inside the brain (default: none)",
    )


def _check_kind(arguments: argparse.Namespace) -> None:
    for kind, options in OPTIONS_OF_KIND.items():
        for option in options:
            if kind != arguments.kind and getattr(arguments, option) is not None:
                raise InputError(f"--{option} is an option of the kind {kind}, not of {arguments.kind}.")


def _fill_defaults(arguments: argparse.Namespace) -> None:
    for option, default in DEFAULTS_OF_KIND[arguments.kind].items():
        if getattr(arguments, option) is None:
            setattr(arguments, option, default)


def _check(arguments: argparse.Namespace) -> None:
    ranges = {
        "--cases": (arguments.cases, 1, MISNAMED_NUMBER if arguments.year == 2020 else MOST_CASES),
        "--test_cases": (arguments.test_cases, 0, MOST_CASES),
        "--size": (arguments.size, SMALLEST_SIZE, LARGEST_SIZE),
        "--seed": (arguments.seed, 0, math.inf),
        "-np": (arguments.processes, 1, math.inf),
    }
    if arguments.kind == "heart":
        ranges["--noise"] = (arguments.noise, 0, 10_000)
    for option, (value, low, high) in ranges.items():
        # Written so that a NaN is caught, too.
        if not low <= value <= high:
            bound = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise InputError(f"{option} must be {bound}, not {value}.")
    if arguments.rotate_mr and not arguments.paired:
        raise InputError("--rotate_mr needs --paired: without a CT of the same heart there is nothing to turn against.")
    if arguments.test_labels and not arguments.test_cases:
        raise InputError("--test_labels needs --test_cases: there are no test cases to write the labels of.")


def _summary(written: list[WrittenHeartCase] | list[WrittenHeadCase]) -> str:
    """Return a table with one row per folder."""
    rows = [("folder", "cases", "size (x, y, z)", "spacing in mm", "orientations")]
    for folder in dict.fromkeys(case.job.folder for case in written):
        cases = [case for case in written if case.job.folder == folder]
        orientations = Counter(case.orientation for case in cases).most_common()
        rows.append(
            (
                folder,
                str(len(cases)),
                " x ".join(_range([case.size[axis] for case in cases], "d") for axis in range(3)),
                " x ".join(_range([case.spacing[axis] for case in cases], ".2f") for axis in range(3)),
                ", ".join(f"{count} {name}" for name, count in orientations),
            )
        )
    return text_table(rows)


def _range(values: list[float], style: str) -> str:
    low, high = format(min(values), style), format(max(values), style)
    return low if low == high else f"{low}-{high}"
