"""``rl_nnunet_convert_paired``: any cases with several sequences on one grid and one label map."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace

from rl_nnunet.command_line import make_parser
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.command_line import add_output_arguments
from rl_nnunet.dataset_conversion.file_search import PLACEHOLDER, BranchFiles, find_cases
from rl_nnunet.dataset_conversion.general_options import (
    add_case_arguments,
    channels_per_branch,
    name_channels,
    split_branch,
    with_labels,
    write_cases,
)
from rl_nnunet.dataset_conversion.label_options import Entries, name_labels
from rl_nnunet.errors import InputError, run_command

EXAMPLE = """example:
  rl_nnunet_convert_paired -d 503 -n Tumor \\
    --branch "T1w=/data/{case}/t1.nii.gz,/data/{case}/t1ce.nii.gz" \\
    --branch "T2w=/data/{case}/t2.nii.gz,/data/{case}/flair.nii.gz" \\
    --label "/data/{case}/seg.nii.gz" --labels background=0 core=1 edema=2
"""


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    named = name_labels(arguments.labels)
    training = [parse_images(text, "--branch") for text in arguments.branch]
    branches = name_channels([(name, len(images)) for name, images in training], arguments.channels)
    cases = find_paired_cases(training, arguments.label, branches, named, "--branch", arguments.allow_missing)
    if arguments.test:
        tests = order_tests([parse_images(text, "--test") for text in arguments.test], training)
        cases += find_paired_cases(tests, arguments.test_label, branches, named, "--test", arguments.allow_missing)
    elif arguments.test_label is not None:
        raise InputError("--test_label: there is no --test that it belongs to; add the images, or leave it out.")
    write_cases(arguments, "rl_nnunet_convert_paired", "paired", branches, named, cases)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_paired",
        "Convert cases with several sequences on one grid and one label map to nnU-Net's raw format.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_output_arguments(parser, default_orientation="keep")
    parser.add_argument(
        "--branch",
        action="append",
        required=True,
        metavar="NAME=IMAGES",
        help="a branch and the files of its sequences, separated by commas, with {case} for the name of the case, "
        "quoted; repeat the option for every branch",
    )
    parser.add_argument(
        "--label",
        required=True,
        metavar="LABELS",
        help="the label files; with {structure} for one mask file per structure",
    )
    parser.add_argument(
        "--test", action="append", default=[], metavar="NAME=IMAGES", help="test scans of a branch; repeat as --branch"
    )
    parser.add_argument("--test_label", metavar="LABELS", help="labels of the test scans, if known")
    add_case_arguments(parser)
    return parser


def parse_images(text: str, option: str) -> tuple[str, tuple[str, ...]]:
    """Read ``NAME=IMAGES[,IMAGES...]``."""
    name, patterns = split_branch(text, option, "NAME=IMAGES")
    images = tuple(patterns.split(","))
    if not all(images) or ":" in patterns:
        raise InputError(
            f"{option} {text}: write NAME=IMAGES, with commas between the patterns of several sequences; labels belong "
            "to --label, and paths must not contain ':' or ','."
        )
    return name, images


def order_tests(
    tests: Sequence[tuple[str, tuple[str, ...]]], training: Sequence[tuple[str, tuple[str, ...]]]
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the patterns of the test scans in the order of the branches.

    Raises
    ------
    InputError
        If they are not for the same branches, with as many sequences.
    """
    given = dict(tests)
    for name, images in training:
        if len(given.get(name, ())) != len(images):
            raise InputError(f"--test: give {name} with {len(images)} image patterns, as in --branch.")
    if len(tests) != len(training):
        raise InputError(f"--test: give every branch once, {', '.join(name for name, _ in training)}.")
    return [(name, given[name]) for name, _ in training]


def find_paired_cases(
    files: Sequence[tuple[str, tuple[str, ...]]],
    label_pattern: str | None,
    branches: dict[str, tuple[str, ...]],
    named: Entries,
    option: str,
    allow_missing: Collection[str] = (),
) -> list[Case]:
    """Find cases that have all branches.

    Parameters
    ----------
    files : sequence of (str, tuple of str)
        The image patterns of every branch, in order.
    label_pattern : str, optional
        The pattern of the labels.
    branches : dict of str to tuple of str
        Channel names of every branch.
    named : dict of str to tuple of str
        What stands for every label in the files (see `name_labels`).
    option : str
        "--branch" for training cases, "--test" for test cases.
    allow_missing : collection of str
        See `find_cases`.
    """
    channels = channels_per_branch(branches)
    images = tuple(pattern for _, patterns in files for pattern in patterns)
    together, scheme = with_labels(BranchFiles(option, images, label_pattern), named, list(named), "--labels")
    cases = find_cases(
        together,
        range(len(images)),
        PLACEHOLDER,
        is_test=option == "--test",
        shared_patients=True,
        allow_missing=allow_missing,
    )
    return [
        replace(
            case,
            branches=tuple(name for name, indices in channels.items() if not case.images.keys().isdisjoint(indices)),
            label_scheme=scheme,
        )
        for case in cases
    ]
