"""``rl_nnunet_convert_unpaired``: any folders of images and labels, each case with one branch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rl_nnunet.command_line import make_parser, whole_number
from rl_nnunet.dataset_conversion.cases import (
    PLACEHOLDER,
    BranchFiles,
    Case,
    find_cases,
    parse_labels,
)
from rl_nnunet.dataset_conversion.command_line import add_output_arguments
from rl_nnunet.errors import InputError, run_command

EXAMPLE = """example:
  rl_nnunet_convert_unpaired -d 502 -n Heart \\
    --branch "CT=/data/ct/{case}.nii.gz:/data/ct_labels/{case}.nii.gz" \\
    --branch "MRI=/data/mr/{case}_image.nii.gz:/data/mr/{case}_label.nii.gz" \\
    --labels background=0 myocardium=1 left_ventricle=2
"""


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    labels = parse_labels(arguments.labels)
    training = [parse_branch(text, "--branch") for text in arguments.branch]
    unlabeled = next((files.branch for files in training if files.label_pattern is None), None)
    if unlabeled:
        raise InputError(f"--branch {unlabeled}: add :LABELS; scans without labels belong to --test.")
    branches = name_channels(training, arguments.channels)
    cases = find_unpaired_cases(training, [parse_branch(text, "--test") for text in arguments.test], branches)
    cases = hold_out(cases, read_names(arguments.hold_out))

    from rl_nnunet.dataset_conversion.raw_dataset import RawDataset, write_dataset

    dataset = RawDataset(
        arguments.dataset_id,
        arguments.name,
        branches,
        "unpaired",
        labels,
        cases,
        arguments.orientation,
        "rl_nnunet_convert_unpaired",
        arguments.folds,
    )
    write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_unpaired",
        "Convert folders of images and labels, one or more branches (modalities, contrasts) of different "
        "patients, to nnU-Net's raw format.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_output_arguments(parser)
    parser.add_argument(
        "--branch",
        action="append",
        required=True,
        metavar="NAME=IMAGES:LABELS",
        help="a branch and its files, with {case} for the name of the case, quoted; several channels on one grid are "
        "patterns separated by commas; a branch called CT gets nnU-Net's "
        "CT normalization; repeat the option for every branch",
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        required=True,
        metavar="NAME=VALUE",
        help="label names and their values in the label files; NAME=VALUE,VALUE joins several values",
    )
    parser.add_argument(
        "--channels",
        action="append",
        default=[],
        metavar="BRANCH=NAME[,NAME...]",
        help="names of a branch's channels (default: the name of the branch, numbered if it has several); a channel "
        "called CT gets nnU-Net's CT normalization",
    )
    parser.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="NAME=IMAGES[:LABELS]",
        help="test scans of a branch, with labels where known",
    )
    parser.add_argument(
        "--hold_out",
        nargs="+",
        default=[],
        metavar="CASE",
        help="names of cases, or a file with one name a line, that become test cases in every branch",
    )
    parser.add_argument(
        "--folds", type=whole_number(2), default=5, metavar="N", help="folds of the cross-validation (default: 5)"
    )
    return parser


def parse_branch(text: str, option: str) -> BranchFiles:
    """Read ``NAME=IMAGES[,IMAGES...][:LABELS]``."""
    name, _, patterns = text.partition("=")
    images, _, labels = patterns.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name) or not images:
        raise InputError(f"{option} {text}: write NAME=IMAGES:LABELS, with a NAME of letters, digits, '_' and '-'.")
    return BranchFiles(name, tuple(images.split(",")), labels or None)


def name_channels(training: Sequence[BranchFiles], entries: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the channel names of every branch.

    Parameters
    ----------
    training : sequence of BranchFiles
        The branches.
    entries : sequence of str
        ``BRANCH=NAME[,NAME...]``, for branches whose channels are not to be called like the branch.
    """
    given = {name: tuple(names.split(",")) for name, _, names in (entry.partition("=") for entry in entries)}
    branches: dict[str, tuple[str, ...]] = {}
    for files in training:
        count = len(files.image_patterns)
        numbered = tuple(f"{files.branch}_{index}" for index in range(count))
        channels = given.pop(files.branch, (files.branch,) if count == 1 else numbered)
        if files.branch in branches:
            raise InputError(f"--branch: {files.branch} is given twice; use a name once, with * for several folders.")
        if len(channels) != count:
            raise InputError(f"--channels: {files.branch} has {count} channels, not {len(channels)}; name every one.")
        branches[files.branch] = channels
    if given:
        raise InputError(f"--channels: there is no branch {next(iter(given))}; use a name from --branch.")
    every = [channel for channels in branches.values() for channel in channels]
    if "" in every or len(set(every)) < len(every):
        raise InputError(f"--channels: the channel names {', '.join(every)} must all differ; rename some.")
    return branches


def find_unpaired_cases(
    training: Sequence[BranchFiles], tests: Sequence[BranchFiles], branches: dict[str, tuple[str, ...]]
) -> list[Case]:
    """Find the cases of all branches; the same name in two branches is the same patient.

    Parameters
    ----------
    training, tests : sequence of BranchFiles
        The files.
    branches : dict of str to tuple of str
        Channel names of every branch.
    """
    channels, start = {}, 0
    for name, names in branches.items():
        channels[name] = list(range(start, start + len(names)))
        start += len(names)
    cases = []
    for position, files in enumerate([*training, *tests]):
        if len(files.image_patterns) != len(channels.get(files.branch, ())):
            raise InputError(
                f"--test: {files.branch} must be a name from --branch, with as many image patterns as there."
            )
        cases += find_cases(
            files,
            channels[files.branch],
            f"{files.branch}_{PLACEHOLDER}",
            is_test=position >= len(training),
            shared_patients=True,
        )
    return cases


def read_names(entries: Sequence[str]) -> list[str]:
    """Return case names; an entry that is a file stands for the names in it, one a line."""
    names = []
    for entry in entries:
        names += Path(entry).read_text().split("\n") if Path(entry).is_file() else [entry]
    return [name.strip() for name in names if name.strip()]


def hold_out(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Make the cases of the named patients test cases.

    Raises
    ------
    InputError
        If a name fits no case.
    """
    patients = {case.patient for case in cases}
    unknown = next((name for name in names if name not in patients), None)
    if unknown is not None:
        raise InputError(
            f"--hold_out: there is no case or file {unknown}; the cases are called like {min(patients)} here."
        )
    return [replace(case, is_test=case.is_test or case.patient in names) for case in cases]
