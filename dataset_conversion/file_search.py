"""Finding the files of cases by patterns. Nothing here opens an image."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.errors import InputError

PLACEHOLDER = "{case}"
STRUCTURE = "{structure}"
READABLE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
# What a case may lack if the user says so.
IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class BranchFiles:
    """Where the files of one branch lie.

    Parameters
    ----------
    branch : str
        The branch.
    image_patterns : tuple of str
        One per channel, with ``{case}``; ``*`` and ``?`` are wildcards.
    label_pattern : str, optional
        The same for the labels; with ``{structure}`` if there is a mask file per structure.
    masks : dict of str to tuple of str
        What stands in the place of ``{structure}`` for every structure.
    """

    branch: str
    image_patterns: tuple[str, ...]
    label_pattern: str | None
    masks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def label_patterns(self) -> list[tuple[str, str]]:
        """Structure and pattern of every mask, or "" and the pattern of the label map."""
        if self.label_pattern is None:
            return []
        if not self.masks:
            return [("", self.label_pattern)]
        return [
            (structure, self.label_pattern.replace(STRUCTURE, part))
            for structure, parts in self.masks.items()
            for part in parts
        ]


def find_cases(
    files: BranchFiles,
    channels: Sequence[int],
    identifier: str,
    *,
    is_test: bool = False,
    shared_patients: bool = False,
    optional_labels: bool = False,
    allow_missing: Collection[str] = (),
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
    allow_missing : collection of str
        Of "images" and "masks": whether a case may lack some of its images, or of its masks, but not all.

    Raises
    ------
    InputError
        If nothing matches, a case lacks a file, or two files are one case.
    """
    image_patterns, label_patterns = files.image_patterns, [pattern for _, pattern in files.label_patterns]
    matched = _match_patterns([*image_patterns, *label_patterns])
    images, labels = matched[: len(image_patterns)], matched[len(image_patterns) :]
    # A pattern that no file matches at all is a slip, but for images that all test cases lack.
    optional = [is_test and IMAGES in allow_missing and any(images)] * len(images) + [optional_labels] * len(labels)
    for pattern, found, may_be_empty in zip([*image_patterns, *label_patterns], matched, optional, strict=True):
        if not found and not may_be_empty:
            raise InputError(f"No file matches {pattern}; check the folder and the name of the files.")
    cases = []
    for name in sorted(set().union(*matched)):
        own_images, own_labels = ([found.get(name) for found in group] for group in (images, labels))
        _check_images(files, name, own_images, own_labels, allow_missing)
        _check_labels(files, name, own_images, own_labels, allow_missing, optional=optional_labels)
        own_identifier = identifier.replace(PLACEHOLDER, name)
        cases.append(
            Case(
                own_identifier,
                (files.branch,),
                name if shared_patients else own_identifier,
                {channel: path for channel, path in zip(channels, own_images, strict=True) if path},
                next((path for path in own_labels if path), None),
                is_test,
                masks=_masks(files, own_labels),
            )
        )
    return cases


def _check_images(
    files: BranchFiles,
    name: str,
    images: Sequence[Path | None],
    labels: Sequence[Path | None],
    allow_missing: Collection[str],
) -> None:
    present = next((path for path in images if path), None)
    if present is None:
        label = next(path for path in labels if path)
        raise InputError(f"{files.branch}: the label {label} has no image; add it, or remove the label.")
    if None in images and IMAGES not in allow_missing:
        pattern = files.image_patterns[images.index(None)]
        raise InputError(
            f"{files.branch}: case {name} lacks a channel beside {present}, {pattern.replace(PLACEHOLDER, name)}; "
            f"add it, remove the case, or take it for blank (--allow_missing {IMAGES})."
        )


def _check_labels(
    files: BranchFiles,
    name: str,
    images: Sequence[Path | None],
    labels: Sequence[Path | None],
    allow_missing: Collection[str],
    *,
    optional: bool,
) -> None:
    if None not in labels or (optional and not any(labels)):
        return
    if not any(labels):
        image = next(path for path in images if path)
        raise InputError(f"{files.branch}: the image {image} has no label; add it, or remove the image.")
    if MASKS not in allow_missing:
        pattern = files.label_patterns[labels.index(None)][1].replace(PLACEHOLDER, name)
        raise InputError(
            f"{files.branch}: case {name} lacks the mask {pattern}; add it, remove the case, or take the structure for "
            f"absent (--allow_missing {MASKS})."
        )


def _masks(files: BranchFiles, labels: Sequence[Path | None]) -> dict[str, tuple[Path, ...]]:
    masks: dict[str, tuple[Path, ...]] = {}
    for (structure, _), path in zip(files.label_patterns, labels, strict=True):
        if path and structure:
            masks[structure] = (*masks.get(structure, ()), path)
    return masks


def _match_patterns(patterns: Sequence[str]) -> list[dict[str, Path]]:
    """Match every pattern; a file that several of them match goes to the one with the most fixed characters.

    So ``{case}.nii.gz`` for images and ``{case}_label.nii.gz`` for labels can lie in one folder.
    """
    twice = next((pattern for pattern in patterns if patterns.count(pattern) > 1), None)
    if twice is not None:
        raise InputError(f"The pattern {twice} is given twice; a file can be one image or label only.")
    taken: set[Path] = set()
    matched: dict[int, dict[str, Path]] = {}
    for index in sorted(range(len(patterns)), key=lambda i: -len(patterns[i].replace("*", ""))):
        matched[index] = _match_pattern(patterns[index], taken)
        taken.update(matched[index].values())
    return [matched[index] for index in range(len(patterns))]


def _match_pattern(pattern: str, taken: set[Path]) -> dict[str, Path]:
    """Return the file of every case; two files of one case are an error."""
    if PLACEHOLDER not in pattern:
        raise InputError(f"The pattern {pattern!r} lacks {PLACEHOLDER}, which stands for the name of the case.")
    try:
        pattern = str(Path(pattern).expanduser())
    except RuntimeError:
        raise InputError(f"The pattern {pattern} names a user who does not exist; write the folder out.") from None
    searched = pattern.replace(PLACEHOLDER, "*").replace("[", "[[]")
    expression = _regular_expression(pattern)
    found: dict[str, Path] = {}
    for path in sorted(Path(path) for path in glob.glob(searched)):
        match = expression.fullmatch(str(path))
        if match is None or path in taken or not path.name.endswith(READABLE_ENDINGS) or not path.is_file():
            continue
        other = found.setdefault(match["case"], path)
        if other is not path:
            raise InputError(f"{other} and {path} are two files of one case; remove one of them.")
    return found


def _regular_expression(pattern: str) -> re.Pattern[str]:
    """Translate a pattern; a second ``{case}`` must repeat the first."""
    pieces = [re.escape(piece).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") for piece in pattern.split(PLACEHOLDER)]
    return re.compile(pieces[0] + "(?P<case>[^/]+?)" + "(?P=case)".join(pieces[1:]), re.DOTALL)
