"""``rl_nnunet_convert_unpaired``: any folders of images and labels, each case with one branch."""

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
from rl_nnunet.dataset_conversion.label_options import Entries, labels_per_branch, name_labels
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
    named = name_labels(arguments.labels)
    training = [parse_branch(text, "--branch") for text in arguments.branch]
    unlabeled = next((files.branch for files in training if files.label_pattern is None), None)
    if unlabeled:
        raise InputError(f"--branch {unlabeled}: add :LABELS; scans without labels belong to --test.")
    branches = name_channels([(files.branch, len(files.image_patterns)) for files in training], arguments.channels)
    own_labels = labels_per_branch(arguments.labels_of, list(named), list(branches))
    tests = [parse_branch(text, "--test") for text in arguments.test]

    from rl_nnunet.dataset_conversion.spacing_option import spacings_per_branch

    spacings = spacings_per_branch(arguments.spacing, branches)
    cases = [
        replace(case, spacing=spacings.get(case.branches[0]))
        for case in find_unpaired_cases(training, tests, branches, named, own_labels, arguments.allow_missing)
    ]
    notices = unlabeled_notices(own_labels, list(named))
    pairing = "unregistered" if arguments.same_patient else "unpaired"
    write_cases(arguments, "rl_nnunet_convert_unpaired", pairing, branches, named, cases, notices)


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
        "--test",
        action="append",
        default=[],
        metavar="NAME=IMAGES[:LABELS]",
        help="test scans of a branch, with labels where known",
    )
    parser.add_argument(
        "--labels_of",
        action="append",
        default=[],
        nargs="+",
        metavar=("BRANCH", "NAME=VALUE"),
        help="values in the label files of one branch, where they differ from --labels; structures may be left out, if "
        "these files do not label them",
    )
    parser.add_argument(
        "--same_patient",
        action="store_true",
        help="the same {case} in two branches is one patient, whose scans train together, each on its own grid; "
        "cases.csv says which cases belong to whom",
    )
    parser.add_argument(
        "--spacing",
        action="extend",
        nargs="+",
        default=[],
        metavar="BRANCH=X,Y,Z",
        help="edges of a branch's voxels in mm along the axes of its files, where their headers are wrong, such as "
        "MRI=0.74,0.74,keep; scans that are predicted later need the same correction",
    )
    add_case_arguments(parser)
    return parser


def parse_branch(text: str, option: str) -> BranchFiles:
    """Read ``NAME=IMAGES[,IMAGES...][:LABELS]``."""
    name, patterns = split_branch(text, option, "NAME=IMAGES:LABELS")
    images, colon, labels = patterns.partition(":")
    if not all(images.split(",")) or ":" in labels or (colon and not labels):
        raise InputError(
            f"{option} {text}: write NAME=IMAGES:LABELS, with commas between the patterns of several channels; paths "
            "must not contain ':' or ','."
        )
    return BranchFiles(name, tuple(images.split(",")), labels or None)


def find_unpaired_cases(
    training: Sequence[BranchFiles],
    tests: Sequence[BranchFiles],
    branches: dict[str, tuple[str, ...]],
    named: Entries,
    own_labels: dict[str, Entries],
    allow_missing: Collection[str] = (),
) -> list[Case]:
    """Find the cases of all branches; the same name in two branches is the same patient.

    Parameters
    ----------
    training, tests : sequence of BranchFiles
        The files.
    branches : dict of str to tuple of str
        Channel names of every branch.
    named : dict of str to tuple of str
        What stands for every label in the files (see `name_labels`).
    own_labels : dict of str to dict
        The same for branches whose files differ in that.
    allow_missing : collection of str
        See `find_cases`.
    """
    channels = channels_per_branch(branches)
    cases = []
    for position, files in enumerate([*training, *tests]):
        if len(files.image_patterns) != len(channels.get(files.branch, ())):
            raise InputError(
                f"--test: {files.branch} must be a name from --branch, with as many image patterns as there."
            )
        labels, option = named, "--labels"
        if files.branch in own_labels:
            labels, option = own_labels[files.branch], f"--labels_of {files.branch}"
        files, scheme = with_labels(files, labels, list(named), option)
        found = find_cases(
            files,
            channels[files.branch],
            f"{files.branch}_{PLACEHOLDER}",
            is_test=position >= len(training),
            shared_patients=True,
            allow_missing=allow_missing,
        )
        cases += [replace(case, label_scheme=scheme) for case in found]
    return cases


def unlabeled_notices(own_labels: dict[str, Entries], names: Sequence[str]) -> list[str]:
    """Say which structures a branch does not label: what is background there teaches the network so."""
    return [
        f"{', '.join(lacking)} count as background in {branch}, as --labels_of does not name them."
        for branch, labels in own_labels.items()
        if (lacking := [name for name in names if name not in labels])
    ]
