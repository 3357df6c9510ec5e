"""What the channels that the cases have say of the data set, and whether ``dataset.json`` says the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError

if TYPE_CHECKING:
    from rl_nnunet.branches import BranchLayout
    from rl_nnunet.planners.case_examination import CaseFindings


def cases_per_channel(findings: Mapping[str, CaseFindings]) -> list[list[str]]:
    """Return, per channel, the cases in which it varies."""
    channels = range(len(next(iter(findings.values())).constants))
    return [[case for case, found in findings.items() if found.constants[c] is None] for c in channels]


def cases_per_branch(layout: BranchLayout, cases_per_channel: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return, per branch, the cases that have a channel of it, in the order of their names."""
    return {
        branch.name: sorted({case for channel in branch.channels for case in cases_per_channel[channel]})
        for branch in layout.branches
    }


def say_constants(channel_names: Sequence[str], findings: Mapping[str, CaseFindings]) -> None:
    """Say which channels were filled with something other than zeros: the networks look for zeros."""
    filled = defaultdict(list)
    for case, found in findings.items():
        for name, value in zip(channel_names, found.constants, strict=True):
            if value:
                filled[name, value].append(case)
    for (name, value), cases in filled.items():
        print(
            f"Notice: the channel {name} is {value:g} everywhere in {len(cases)} case{'s' * (len(cases) > 1)}, first "
            f"{cases[0]}: taken as absent; fill absent channels with 0."
        )


def check_presence(
    channel_names: Sequence[str], layout: BranchLayout, findings: Mapping[str, CaseFindings], folder: str
) -> None:
    """Refuse a data set in which a channel or the foreground of a channel occurs nowhere: it has no statistics.

    Raises
    ------
    InputError
        Naming the branch or channel.
    """
    having = cases_per_channel(findings)
    for branch, cases in cases_per_branch(layout, having).items():
        if not cases:
            raise InputError(
                f"No case has the branch {branch}: its images have one value everywhere; take the branch out of "
                f"{folder}/dataset.json or add cases that have it."
            )
    for name, cases in zip(channel_names, having, strict=True):
        if not cases:
            raise InputError(
                f"No case has the channel {name}: its images have one value everywhere; take the channel out of "
                f"{folder} or add cases that have it."
            )
        if not any(findings[case].has_foreground for case in cases):
            raise InputError(
                f"The labels of the cases that have the channel {name} are all background; check {folder}/labelsTr."
            )


def check_pairing(
    layout: BranchLayout,
    cases: Mapping[str, Sequence[str]],
    channel_names: Sequence[str],
    dataset_id: int,
    is_described: bool,
) -> None:
    """Compare the pairing with what the cases have.

    Parameters
    ----------
    layout : BranchLayout
        What ``dataset.json`` says.
    cases : mapping of str to sequence of str
        The cases of each branch.
    channel_names : sequence of str
        Names of the channels, in order.
    dataset_id : int
        nnU-Net's number of the data set, for the remedy.
    is_described : bool
        Whether ``dataset.json`` has our key.

    Raises
    ------
    InputError
        If the data set counts as paired, but every case has exactly one branch.
    """
    counts: dict[str, int] = defaultdict(int)
    for names in cases.values():
        for case in names:
            counts[case] += 1
    several = sorted(case for case, count in counts.items() if count > 1)
    if not layout.is_paired and several:
        print(
            f'Notice: dataset.json says "{layout.pairing}", but {len(several)} of {len(counts)} cases have several '
            f'branches, first {several[0]}; if these show one patient on one grid, "paired" is right.'
        )
    if layout.is_paired and len(layout.branches) > 1 and not several:
        flags = " ".join(
            f"--branch {branch.name}={','.join(channel_names[c] for c in branch.channels)}"
            for branch in layout.branches
        )
        said = 'dataset.json says "paired"' if is_described else 'dataset.json does not say "unpaired"'
        raise InputError(
            f"Every case of data set {dataset_id} has one branch only, but its {said}; run rl_nnunet_add_branches -d "
            f"{dataset_id} {flags} --pairing unpaired{' --overwrite' * is_described}, and plan again."
        )
