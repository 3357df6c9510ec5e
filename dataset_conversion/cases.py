"""Finding the cases of a data set: file patterns, branches, labels. Nothing here opens an image."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rl_nnunet.errors import InputError

PLACEHOLDER = "{case}"
READABLE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True)
class Case:
    """One case of the data set that is to be written.

    Parameters
    ----------
    identifier : str
        nnU-Net's case identifier.
    branches : tuple of str
        Branches that the case has.
    patient : str
        Cases of one patient never end up on both sides of a split.
    images : dict of int to Path
        Image file per channel index; a channel that is not named becomes blank.
    label : Path, optional
        Label file, on the grid of the first image.
    is_test : bool
        Whether the case belongs into ``imagesTs``.
    resample : bool
        Whether the other images are resampled to the grid of the first one; otherwise they must share it.
    stratum : str, optional
        What the folds are balanced by, such as the grade of a tumor; by default the branches.
    details : dict of str to str
        What else is known of the case: its row in ``cases.csv``.
    """

    identifier: str
    branches: tuple[str, ...]
    patient: str
    images: dict[int, Path]
    label: Path | None = None
    is_test: bool = False
    resample: bool = False
    stratum: str | None = None
    details: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The stratum, or else the branches joined by "+"."""
        return self.stratum or "+".join(self.branches)


@dataclass(frozen=True)
class LabelScheme:
    """Names of the labels, and the values that stand for them in the label files.

    Parameters
    ----------
    values : dict of str to tuple of int
        Raw values per name, background first; the position is the label value that nnU-Net gets.
    stray : frozenset of int
        Values that are accepted, but reported.
    regions : dict of str to tuple of int
        Label values per region, for nnU-Net's region-based training: overlapping regions in place of labels, the
        largest first. The first label of a region is the one that no later region has.
    may_be_empty : bool
        Whether a label that is all background is accepted, and reported.
    """

    values: dict[str, tuple[int, ...]]
    stray: frozenset[int] = field(default=frozenset())
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    may_be_empty: bool = False

    @property
    def names(self) -> dict[str, int]:
        """Label value per name."""
        return {name: index for index, name in enumerate(self.values)}

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """Label values per region or, without regions, per label; no background."""
        return self.regions or {name: (index,) for name, index in self.names.items() if index}

    @property
    def dataset_json_entries(self) -> dict[str, Any]:
        """What ``dataset.json`` says about labels.

        nnU-Net writes one region over the other in the order of ``regions_class_order``, each with its value there.
        """
        if not self.regions:
            return {"labels": self.names}
        return {
            "labels": {"background": 0, **self.regions},
            "regions_class_order": [labels[0] for labels in self.regions.values()],
        }

    @property
    def mapping(self) -> dict[int, int]:
        """Label value per raw value."""
        return {raw: index for index, raws in enumerate(self.values.values()) for raw in raws}

    @property
    def inverse(self) -> dict[int, int]:
        """Raw value per label value; the first where several are joined."""
        return {index: raws[0] for index, raws in enumerate(self.values.values())}


class BranchFiles(NamedTuple):
    """Where the files of one branch lie: patterns that contain ``{case}``, and may contain ``*`` and ``?``."""

    branch: str
    image_patterns: tuple[str, ...]
    label_pattern: str | None


def parse_labels(entries: Sequence[str]) -> LabelScheme:
    """Read ``NAME=VALUE[,VALUE...]`` entries; background is 0 unless stated, and "ignore" goes last."""
    values: dict[str, tuple[int, ...]] = {"background": (0,)}
    for entry in entries:
        name, _, numbers = entry.partition("=")
        if not name or not re.fullmatch(r"-?\d+(,-?\d+)*", numbers):
            raise InputError(f"--labels {entry}: write NAME=VALUE or NAME=VALUE,VALUE with whole numbers.")
        if name in values and name != "background":
            raise InputError(f"--labels: the name {name} is given twice; separate its values by commas.")
        values[name] = tuple(int(number) for number in numbers.split(","))
    if "ignore" in values:  # nnU-Net wants the ignore label to have the highest value.
        values["ignore"] = values.pop("ignore")
    every = [value for group in values.values() for value in group]
    twice = next((value for value in every if every.count(value) > 1), None)
    if twice is not None:
        raise InputError(f"--labels: the value {twice} is given twice; every value can have one name only.")
    if len(values) < 2:
        raise InputError("--labels: name at least one structure besides the background.")
    return LabelScheme(values)


def find_cases(
    files: BranchFiles,
    channels: Sequence[int],
    identifier: str,
    *,
    is_test: bool = False,
    shared_patients: bool = False,
    optional_labels: bool = False,
) -> list[Case]:
    """Match the files of one branch.

    Parameters
    ----------
    files : BranchFiles
        Patterns of the image files (one per channel) and of the label files.
    channels : sequence of int
        Channel indices of the branch, in the order of the image patterns.
    identifier : str
        nnU-Net's case identifier, with ``{case}`` for the case's name.
    is_test : bool
        Whether these are test cases.
    shared_patients : bool
        Whether equal case names in two branches are one patient.
    optional_labels : bool
        Whether a case may lack its label although there is a pattern for labels.

    Raises
    ------
    InputError
        If nothing matches, a case lacks a file, or two files are one case.
    """
    patterns = [*files.image_patterns, *([files.label_pattern] if files.label_pattern else [])]
    matched = _match_patterns(patterns)
    images, labels = matched[: len(files.image_patterns)], matched[len(files.image_patterns) :]
    for pattern, found in zip(patterns, matched, strict=True):
        if not found and not (labels and found is labels[0] and optional_labels):
            raise InputError(f"No file matches {pattern}; check the folder and the name of the files.")
    cases = []
    for name in sorted(set().union(*matched)):
        _check_complete(files.branch, name, images, labels, optional_labels)
        label = labels[0].get(name) if labels else None
        own_identifier = identifier.replace(PLACEHOLDER, name)
        cases.append(
            Case(
                own_identifier,
                (files.branch,),
                name if shared_patients else own_identifier,
                {channel: found[name] for channel, found in zip(channels, images, strict=True)},
                label,
                is_test,
            )
        )
    return cases


def _check_complete(
    branch: str, name: str, images: list[dict[str, Path]], labels: list[dict[str, Path]], optional_labels: bool
) -> None:
    present = next((found[name] for found in images if name in found), None)
    if present is None:
        raise InputError(f"{branch}: the label {labels[0][name]} has no image; add it, or remove the label.")
    if any(name not in found for found in images):
        raise InputError(f"{branch}: case {name} lacks a channel beside {present}; add it, or remove the case.")
    if labels and name not in labels[0] and not optional_labels:
        raise InputError(f"{branch}: the image {present} has no label; add it, or remove the image.")


def check_identifiers(cases: Iterable[Case]) -> None:
    """Raise `InputError` if two cases would be written under one name."""
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.identifier, case)
        if other is not case:
            paths = [str(next(iter(one.images.values()))) for one in (other, case)]
            raise InputError(
                f"{paths[0]} and {paths[1]} would both become the case {case.identifier}; "
                "rename a branch, or list every scan once."
            )


def _match_patterns(patterns: Sequence[str]) -> list[dict[str, Path]]:
    """Match every pattern; a file that several of them match goes to the one with the most fixed characters.

    So ``{case}.nii.gz`` for images and ``{case}_label.nii.gz`` for labels can lie in one folder.
    """
    taken: set[Path] = set()
    matched: dict[int, dict[str, Path]] = {}
    for index in sorted(range(len(patterns)), key=lambda i: -len(patterns[i].replace("*", ""))):
        matched[index] = _match_pattern(patterns[index], taken)
        taken.update(matched[index].values())
    return [matched[index] for index in range(len(patterns))]


def _match_pattern(pattern: str, taken: set[Path]) -> dict[str, Path]:
    """Return the file of every case; two files of one case are an error."""
    if PLACEHOLDER not in pattern:
        raise InputError(f"The pattern {pattern} lacks {PLACEHOLDER}, which stands for the name of the case.")
    pattern = str(Path(pattern).expanduser())
    searched = pattern.replace(PLACEHOLDER, "*").replace("[", "[[]")
    expression = _regular_expression(pattern)
    found: dict[str, Path] = {}
    for path in sorted(Path(path) for path in glob.glob(searched)):
        match = expression.fullmatch(str(path))
        if match is None or path in taken or not path.name.endswith(READABLE_ENDINGS):
            continue
        other = found.setdefault(match["case"], path)
        if other is not path:
            raise InputError(f"{other} and {path} are two files of one case; remove one of them.")
    return found


def _regular_expression(pattern: str) -> re.Pattern[str]:
    """Translate a pattern; a second ``{case}`` must repeat the first."""
    pieces = [re.escape(piece).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") for piece in pattern.split(PLACEHOLDER)]
    return re.compile(pieces[0] + "(?P<case>[^/]+?)" + "(?P=case)".join(pieces[1:]))
