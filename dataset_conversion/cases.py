"""What the cases and labels of a data set are, before any image is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_nnunet.errors import InputError

# In bytes. File systems take 255 for a name; nnU-Net appends channel and ending, and puts the name into others.
LONGEST_IDENTIFIER = 200


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
        Label file, on the grid of the first image; the first of the masks if there are several files.
    masks : dict of str to tuple of Path
        One or more mask files per structure, if these are in place of a label map.
    label_scheme : LabelScheme, optional
        The values in the label file, where they differ from those of the data set.
    spacing : tuple of (float or None), optional
        Spacing in mm along the axes of the files, in the place of what their headers state; None keeps that.
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
    masks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    label_scheme: LabelScheme | None = None
    spacing: tuple[float | None, float | None, float | None] | None = None

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


def check_identifiers(cases: Iterable[Case]) -> None:
    """Raise `InputError` if two cases would be written under one name, or a name is none that can be written."""
    first: dict[str, Case] = {}
    for case in cases:
        _check_identifier(case)
        other = first.setdefault(case.identifier, case)
        if other is not case:
            paths = [str(next(iter(one.images.values()))) for one in (other, case)]
            raise InputError(
                f"{paths[0]} and {paths[1]} would both become the case {case.identifier}; "
                "rename a branch, or list every scan once."
            )
    _check_files(first.values())


def _check_files(cases: Iterable[Case]) -> None:
    owner: dict[Path, str] = {}
    for case in cases:
        # A pair of test scans is made of scans that are cases of their own.
        for path in () if case.resample else (image.resolve() for image in case.images.values()):
            if path in owner:
                raise InputError(f"{path} is used twice, in {owner[path]} and in {case.identifier}; list it once.")
            owner[path] = case.identifier


def _check_identifier(case: Case) -> None:
    path = next(iter(case.images.values()))
    try:
        length = len(case.identifier.encode())
    except UnicodeEncodeError:
        raise InputError(f"{path} has a name that is not UTF-8, which nnU-Net cannot read; rename it.") from None
    if length > LONGEST_IDENTIFIER:
        raise InputError(
            f"{path} would become a case with a name of {length} bytes; rename it, so that it has at most "
            f"{LONGEST_IDENTIFIER}."
        )
    if not case.identifier.isprintable():
        raise InputError(f"{str(path)!r} has a name with characters that cannot be printed; rename it.")
