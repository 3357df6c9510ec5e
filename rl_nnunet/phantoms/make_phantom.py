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
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError, run_command
from rl_nnunet.phantoms.config import HeartPhantomConfig
from rl_nnunet.phantoms.dataset import ROTATIONS_FILE, write_heart_dataset

if TYPE_CHECKING:
    from rl_nnunet.phantoms.write import WrittenCase

# Case numbers start at 1001 and 2001, so there is room for this many.
MOST_CASES = 999
SMALLEST_SIZE, LARGEST_SIZE = 16, 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; the entry point."""
    arguments = _parser().parse_args(argv)
    # A polite kill ends like an error, so that it cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run_command(lambda: _make_heart(arguments))


def _make_heart(arguments: argparse.Namespace) -> None:
    _check(arguments)
    start = time.perf_counter()
    written = write_heart_dataset(
        arguments.output,
        arguments.cases,
        arguments.test_cases,
        arguments.seed,
        replace(HeartPhantomConfig(), size=arguments.size, mr_noise=arguments.noise),
        paired=arguments.paired,
        paired_test=arguments.paired_test,
        rotate_mr=arguments.rotate_mr,
        test_labels=arguments.test_labels,
        processes=arguments.processes,
        overwrite=arguments.overwrite,
    )
    print(_summary(written))
    print(f"{len(written)} cases written to {arguments.output} in {time.perf_counter() - start:.1f} s")


def _parser() -> argparse.ArgumentParser:
    defaults = HeartPhantomConfig()
    parser = argparse.ArgumentParser(
        prog="rl_nnunet_make_phantom",
        description="Writes a synthetic data set with exact labels: phantom hearts in CT and MR, as MM-WHS 2017 "
        "ships its own (ct_train, mr_train, ct_test, mr_test).",
    )
    add = parser.add_argument
    add("kind", nargs="?", default="heart", choices=["heart"], help="what to make phantoms of (default: heart)")
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder to write; must not exist yet")
    add("--cases", type=int, default=20, metavar="N", help="labeled cases per modality (default: 20)")
    add("--test_cases", type=int, default=0, metavar="N", help="unlabeled cases per modality (default: 0)")
    add(
        "--size",
        type=int,
        default=defaults.size,
        metavar="VOXELS",
        help="voxels along the longest axis of a CT; the field of view stays the same (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="same seed, same images (default: 0)")
    add(
        "--noise",
        type=float,
        default=defaults.mr_noise,
        metavar="SD",
        help="SD of the noise of the MR; blood is about 450 to 600 (default: %(default)s)",
    )
    add("--paired", action="store_true", help="CT and MR of one number show the same heart")
    add("--paired_test", action="store_true", help="CT and MR of one number show the same heart in the test cases only")
    add(
        "--rotate_mr",
        action="store_true",
        help="with --paired: turn the content of every MR by a random rotation of the cube, which its header does "
        f"not tell but {ROTATIONS_FILE} does; no volume is stored in another orientation then",
    )
    add(
        "--test_labels",
        action="store_true",
        help="write the labels of the test cases beside their images, too",
    )
    add(
        "-np",
        dest="processes",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace a phantom data set that is already there")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    ranges = {
        "--cases": (arguments.cases, 1, MOST_CASES),
        "--test_cases": (arguments.test_cases, 0, MOST_CASES),
        "--size": (arguments.size, SMALLEST_SIZE, LARGEST_SIZE),
        "--seed": (arguments.seed, 0, math.inf),
        "--noise": (arguments.noise, 0, 10_000),
        "-np": (arguments.processes, 1, math.inf),
    }
    for option, (value, low, high) in ranges.items():
        # Written so that a NaN is caught, too.
        if not low <= value <= high:
            bound = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise InputError(f"{option} must be {bound}, not {value}.")
    if arguments.rotate_mr and not arguments.paired:
        raise InputError("--rotate_mr needs --paired: without a CT of the same heart there is nothing to turn against.")
    if arguments.test_labels and not arguments.test_cases:
        raise InputError("--test_labels needs --test_cases: there are no test cases to write the labels of.")


def _summary(written: list[WrittenCase]) -> str:
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _range(values: list[float], style: str) -> str:
    low, high = format(min(values), style), format(max(values), style)
    return low if low == high else f"{low}-{high}"
