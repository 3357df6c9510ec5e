"""The domain model: branches, the named groups of input channels that get their own stem, and a segmentation each.

A data set is *paired* (all branches show the same patient on the same grid, with one label map), *unpaired* (each case
carries one branch only, on its own grid, with its own label map) or *unregistered*: unpaired, but some patients have a
case in several branches, and ``cases.csv`` says which. The converters record this in ``dataset.json`` under the key
``rl_nnunet``; nnU-Net ignores the key and copies the file to where training and prediction find it.

A branch that a case does not have is *blank*: its raw image is zero everywhere. After nnU-Net's normalization such a
channel is constant, at a value that follows from the plans (see `blank_values`), or zero where a patch was padded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rl_nnunet.command_line import KEEP, ORIENTATIONS
from rl_nnunet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DATASET_JSON_KEY = "rl_nnunet"
ORIENTATION_KEY = "orientation"
"""Below `DATASET_JSON_KEY`: the axis order that the converter gave all images, such as LPS, or "keep"."""

Pairing = Literal["paired", "unpaired", "unregistered"]


@dataclass(frozen=True)
class Branch:
    """A named group of input channels.

    Parameters
    ----------
    name : str
        Name of the branch, for example ``"CT"``.
    channels : tuple of int
        Indices of its channels in nnU-Net's channel order.
    """

    name: str
    channels: tuple[int, ...]


@dataclass(frozen=True)
class BranchLayout:
    """How the channels of a data set are grouped into branches, and whether its cases are paired."""

    branches: tuple[Branch, ...]
    pairing: Pairing

    @property
    def is_paired(self) -> bool:
        """Whether the branches of a case lie on one grid, with one label map; otherwise a case has one branch."""
        return self.pairing == "paired"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the branches, in order."""
        return tuple(branch.name for branch in self.branches)

    @property
    def channels(self) -> tuple[tuple[int, ...], ...]:
        """Channel indices of the branches, in order."""
        return tuple(branch.channels for branch in self.branches)


def describe_branches(branches: dict[str, Sequence[str]], pairing: Pairing) -> dict[str, Any]:
    """Return the entry for ``dataset.json``'s key ``rl_nnunet``: branch names, their channel names, the pairing."""
    return {"branches": {name: list(channels) for name, channels in branches.items()}, "pairing": pairing}


def read_dataset_json(file: Path) -> dict[str, Any]:
    """Read a ``dataset.json``; `InputError` if it is none, or has one key twice, of which only the last would count."""

    def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"{file} has the key {repeated[0]!r} twice in one place; remove one.")
        return dict(pairs)

    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON ({error}); mend it, or convert the data set again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold an object, {{...}}, not {type(content).__name__}.")
    return content


def channel_indices(dataset_json: dict[str, Any]) -> dict[str, int]:
    """Return the index of each channel by its name; with ``_INDEX`` behind it where two channels share a name.

    Raises
    ------
    InputError
        If the channels are not numbered 0, 1, 2, ... in this order, in which nnU-Net takes them.
    """
    names = dataset_json.get("channel_names", dataset_json.get("modality"))
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError(
            'dataset.json: "channel_names" must name each channel by its number, as in {"0": "CT", "1": "MRI"}, '
            f"not {names!r}."
        )
    if list(names) != [str(index) for index in range(len(names))]:
        raise InputError(
            f'dataset.json: the channels of "channel_names" must be numbered 0, 1, 2, ... in this order, not '
            f"{', '.join(map(str, names))}."
        )
    index = {name: int(i) for i, name in names.items()}
    return index if len(index) == len(names) else {f"{name}_{i}": int(i) for i, name in names.items()}


def layout_from_dataset_json(dataset_json: dict[str, Any]) -> BranchLayout:
    """Read the branches of a data set.

    Without the key ``rl_nnunet``, or where it says nothing of branches but names classes, every channel is a branch of
    its own and the data set is paired: that is what nnU-Net's raw format means.

    Parameters
    ----------
    dataset_json : dict
        The content of nnU-Net's ``dataset.json``.

    Raises
    ------
    InputError
        If the entry is not built as `describe_branches` builds it, names unknown channels, leaves channels out, uses
        one twice, or states an unknown pairing.
    """
    index = channel_indices(dataset_json)
    if DATASET_JSON_KEY not in dataset_json or _names_classes_only(dataset_json[DATASET_JSON_KEY]):
        return BranchLayout(tuple(Branch(name, (i,)) for name, i in index.items()), "paired")
    branches, pairing = _checked_entry(dataset_json[DATASET_JSON_KEY])
    used = [channel for channels in branches.values() for channel in channels]
    if sorted(used) != sorted(index):
        raise InputError(
            f"dataset.json: the branches must use every channel exactly once; they use {used}, "
            f"the channels are {list(index)}."
        )
    return BranchLayout(
        tuple(Branch(name, tuple(index[channel] for channel in channels)) for name, channels in branches.items()),
        pairing,
    )


def recorded_orientation(dataset_json: dict[str, Any]) -> str | None:
    """Return the axis order that a data set was converted to; None if its images were kept, or nothing is recorded.

    Raises
    ------
    InputError
        If what is recorded is no axis order.
    """
    entry = dataset_json.get(DATASET_JSON_KEY)
    orientation = entry.get(ORIENTATION_KEY) if isinstance(entry, dict) else None
    if orientation not in (None, *ORIENTATIONS):
        raise InputError(
            f'dataset.json: "{ORIENTATION_KEY}" must be one of {", ".join(ORIENTATIONS)}, not {orientation!r}.'
        )
    return None if orientation == KEEP else orientation


def _names_classes_only(entry: Any) -> bool:
    return isinstance(entry, dict) and "classes" in entry and not entry.keys() & {"branches", "pairing"}


def _checked_entry(entry: Any) -> tuple[dict[str, list[str]], Pairing]:
    """Return the branches' channel names and the pairing of an entry that is built as it must be."""
    branches = entry.get("branches") if isinstance(entry, dict) else None
    if not isinstance(branches, dict) or not branches:
        raise InputError(
            f'dataset.json: "{DATASET_JSON_KEY}" must look like {{"branches": {{"CT": ["CT"], "MRI": ["MRI"]}}, '
            f'"pairing": "unpaired"}}, not {entry!r}.'
        )
    for name, channels in branches.items():
        if not name.strip():
            raise InputError("dataset.json: a branch must have a name that is not blank.")
        if not isinstance(channels, list) or not channels or not all(isinstance(item, str) for item in channels):
            raise InputError(
                f"dataset.json: the branch {name} must be a list of names of its channels, at least one, not "
                f"{channels!r}."
            )
    if entry.get("pairing") not in get_args(Pairing):
        raise InputError(
            f'dataset.json: "pairing" must be "paired", "unpaired" or "unregistered", not {entry.get("pairing")!r}.'
        )
    return branches, entry["pairing"]


def blank_values(
    normalization_schemes: Sequence[str], intensity_properties: dict[str, dict[str, float]]
) -> tuple[float, ...]:
    """Return, per channel, the value that an all-zero raw image has after nnU-Net's normalization.

    Zero for every scheme but CTNormalization, which maps it to ``(clip(0) - mean) / std``.

    Parameters
    ----------
    normalization_schemes : sequence of str
        ``normalization_schemes`` of the configuration.
    intensity_properties : dict
        ``foreground_intensity_properties_per_channel`` of the plans, keyed by the channel index as a string.
    """
    values = []
    for channel, scheme in enumerate(normalization_schemes):
        if scheme == "CTNormalization":
            properties = intensity_properties[str(channel)]
            clipped = min(max(0.0, properties["percentile_00_5"]), properties["percentile_99_5"])
            values.append((clipped - properties["mean"]) / max(properties["std"], 1e-8))
        else:
            values.append(0.0)
    return tuple(values)
