"""What the general converters share: options on branches, channels, labels and held-out cases, and the writing."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rl_nnunet.branches import Pairing
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme
from rl_nnunet.dataset_conversion.command_line import add_folds_argument
from rl_nnunet.dataset_conversion.file_search import IMAGES, MASKS, STRUCTURE, BranchFiles
from rl_nnunet.dataset_conversion.label_options import Entries, mask_files, value_scheme
from rl_nnunet.errors import InputError

BRANCH_NAME = r"[A-Za-z0-9][\w-]*"
# In bytes; a file of more is no list of names.
LONGEST_LIST = 1 << 20


def add_case_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--labels``, ``--channels``, ``--hold_out``, ``--allow_...`` and ``--folds``."""
    parser.add_argument(
        "--labels",
        action="extend",
        nargs="+",
        required=True,
        metavar="NAME=VALUE",
        help="label names and their values in the label files, or what stands for {structure} in the names of the mask "
        "files; NAME=VALUE,VALUE joins several",
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
        "--hold_out",
        action="extend",
        nargs="+",
        default=[],
        metavar="CASE",
        help="names of cases, or a file with one name a line, that become test cases in every branch",
    )
    parser.add_argument(
        "--allow_missing",
        action="extend",
        nargs="+",
        choices=(IMAGES, MASKS),
        default=[],
        help="let cases lack some of their images, which become blank, or some of their masks, whose structures are "
        "taken for absent (default: such cases are refused)",
    )
    parser.add_argument(
        "--allow_empty_labels",
        action="store_true",
        help="take labels that are all background, as of scans without the structures (default: these are refused)",
    )
    add_folds_argument(parser)


def split_branch(text: str, option: str, form: str) -> tuple[str, str]:
    """Split ``NAME=REST``; `form` is what the message asks for."""
    name, _, rest = text.partition("=")
    if not re.fullmatch(BRANCH_NAME, name) or not rest:
        raise InputError(f"{option} {text}: write {form}, with a NAME of letters, digits, '_' and '-'.")
    return name, rest


def name_channels(channel_counts: Sequence[tuple[str, int]], entries: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the channel names of every branch.

    Parameters
    ----------
    channel_counts : sequence of (str, int)
        The branches, and how many channels each has.
    entries : sequence of str
        ``BRANCH=NAME[,NAME...]``, for branches whose channels are not to be called like the branch.

    Raises
    ------
    InputError
        If a branch is given twice or unknown, or the names are malformed, too many, too few, or not all different.
    """
    given = _given_channels(entries)
    branches: dict[str, tuple[str, ...]] = {}
    for branch, count in channel_counts:
        numbered = tuple(f"{branch}_{index}" for index in range(count))
        channels = given.pop(branch, (branch,) if count == 1 else numbered)
        if branch in branches:
            raise InputError(f"--branch: {branch} is given twice; use a name once, with * for several folders.")
        if len(channels) != count:
            raise InputError(f"--channels: {branch} has {count} channels, not {len(channels)}; name every one.")
        branches[branch] = channels
    if given:
        raise InputError(f"--channels: there is no branch {next(iter(given))}; use a name from --branch.")
    every = [channel for channels in branches.values() for channel in channels]
    if len(set(every)) < len(every):
        raise InputError(f"--channels: the channel names {', '.join(every)} must all differ; rename some.")
    return branches


def _given_channels(entries: Sequence[str]) -> dict[str, tuple[str, ...]]:
    given: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        branch, _, names = entry.partition("=")
        channels = tuple(names.split(","))
        if not branch or not all(re.fullmatch(r"\S(.*\S)?", channel) for channel in channels):
            raise InputError(f"--channels {entry}: write BRANCH=NAME,NAME..., without blanks around the names.")
        if branch in given:
            raise InputError(f"--channels: {branch} is given twice; give all its names at once.")
        given[branch] = channels
    return given


def channels_per_branch(branches: dict[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """Return the channel indices of every branch."""
    channels, start = {}, 0
    for name, names in branches.items():
        channels[name] = list(range(start, start + len(names)))
        start += len(names)
    return channels


def with_labels(
    files: BranchFiles, labels: Entries, names: Sequence[str], option: str
) -> tuple[BranchFiles, LabelScheme | None]:
    """Return the files with their masks, if the pattern of the labels has ``{structure}``, or else their values.

    Parameters
    ----------
    files : BranchFiles
        The files.
    labels : dict of str to tuple of str
        What stands for every label in the files (see `name_labels`).
    names : sequence of str
        All labels of the data set.
    option : str
        Where the labels are from, for messages.
    """
    if files.label_pattern is None:
        return files, None
    if STRUCTURE in files.label_pattern:
        return replace(files, masks=mask_files(labels, option)), None
    return files, value_scheme(labels, names, option)


def write_cases(
    arguments: argparse.Namespace,
    command: str,
    pairing: Pairing,
    branches: dict[str, tuple[str, ...]],
    named: Entries,
    cases: Sequence[Case],
    notices: Sequence[str] = (),
) -> None:
    """Write the data set that the options of `add_case_arguments` and `add_output_arguments` describe.

    Parameters
    ----------
    arguments : argparse.Namespace
        The options.
    command : str
        The command.
    pairing : {"paired", "unpaired", "unregistered"}
        Whether every case is expected to have all branches, or one only (see `RawDataset`).
    branches : dict of str to tuple of str
        Channel names of every branch.
    named : dict of str to tuple of str
        What stands for every label in the files (see `name_labels`).
    cases : sequence of Case
        All cases.
    notices : sequence of str
        What there is to say besides what cases lack.
    """
    may_be_empty = arguments.allow_empty_labels
    labels = LabelScheme({name: (value,) for value, name in enumerate(named)}, may_be_empty=may_be_empty)
    cases = [
        replace(case, label_scheme=case.label_scheme and replace(case.label_scheme, may_be_empty=may_be_empty))
        for case in hold_out(cases, read_names(arguments.hold_out))
    ]

    from rl_nnunet.dataset_conversion.raw_dataset import RawDataset, write_dataset

    paired = pairing == "paired"
    dataset = RawDataset(
        arguments.dataset_id,
        arguments.name,
        branches,
        pairing,
        labels,
        cases,
        arguments.orientation,
        command,
        arguments.folds,
        one_patient_is_enough=paired,
        notices=[*missing_notices(cases, branches, paired=paired), *notices],
    )
    write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def read_names(entries: Sequence[str]) -> list[str]:
    """Return case names; an entry that is a file stands for the names in it, one a line.

    Raises
    ------
    InputError
        If a file is no text.
    """
    names = []
    for entry in entries:
        names += _names_in(Path(entry)) if Path(entry).is_file() else [entry]
    return [name.strip() for name in names if name.strip()]


def _names_in(path: Path) -> list[str]:
    with path.open("rb") as file:
        content = file.read(LONGEST_LIST + 1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    # Label maps are mostly zeros, which are valid characters.
    if text is None or "\0" in text or len(content) > LONGEST_LIST:
        raise InputError(f"--hold_out: {path} is no text file with a name of a case in each line.")
    return text.split("\n")


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


def missing_notices(cases: Sequence[Case], branches: dict[str, tuple[str, ...]], *, paired: bool) -> list[str]:
    """Say which channels and structures how many cases lack.

    Parameters
    ----------
    cases : sequence of Case
        All cases.
    branches : dict of str to tuple of str
        Channel names of every branch.
    paired : bool
        Whether every case is expected to have all channels, and not those of its own branch only.
    """
    notices = []
    for branch, channels in channels_per_branch(branches).items():
        expected = [case for case in cases if paired or branch in case.branches]
        for channel, name in zip(channels, branches[branch], strict=True):
            lacking = sum(channel not in case.images for case in expected)
            if lacking:
                notices.append(f"{name} is missing in {lacking} of {len(expected)} cases, and blank there.")
    masked = [case for case in cases if case.masks]
    for structure in dict.fromkeys(structure for case in masked for structure in case.masks):
        lacking = sum(structure not in case.masks for case in masked)
        if lacking:
            notices.append(
                f"{structure} has no mask in {lacking} of {len(masked)} cases, and is taken for absent there."
            )
    return notices
