"""The options of the general converters on labels: ``--labels`` and ``--labels_of``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rl_nnunet.dataset_conversion.cases import LabelScheme
from rl_nnunet.errors import InputError

BACKGROUND, IGNORE = "background", "ignore"
# Label maps are written with 8 bits.
MOST_LABELS = 256
# Wider than any pixel type that labels are stored with.
LARGEST_VALUE = 2**32

Entries = dict[str, tuple[str, ...]]


def name_labels(entries: Sequence[str], option: str = "--labels") -> Entries:
    """Read ``NAME=TEXT[,TEXT...]`` entries: what stands for every label in the files.

    Background comes first, and is 0 unless stated; "ignore" goes last.

    Raises
    ------
    InputError
        If an entry is malformed, a name is given twice, or there are too many.
    """
    named: Entries = {BACKGROUND: ("0",)}
    given = set()
    for entry in entries:
        name, _, texts = entry.partition("=")
        parts = tuple(texts.split(","))
        if not name.strip() or not all(part.strip() for part in parts):
            raise InputError(f"{option} {entry}: write NAME=VALUE or NAME=VALUE,VALUE.")
        if name in given:
            raise InputError(f"{option}: the name {name} is given twice; separate its values by commas.")
        given.add(name)
        named[name] = parts
    if IGNORE in named:  # nnU-Net wants the ignore label to have the highest value.
        named[IGNORE] = named.pop(IGNORE)
    if len(named) < 2:
        raise InputError(f"{option}: name at least one structure besides the background.")
    if len(named) > MOST_LABELS:
        raise InputError(
            f"{option} names {len(named) - 1} structures, but label maps hold at most {MOST_LABELS - 1}; join some."
        )
    return named


def value_scheme(named: Entries, names: Sequence[str], option: str) -> LabelScheme:
    """Return the scheme of label maps.

    Parameters
    ----------
    named : dict of str to tuple of str
        The values of the labels, as text.
    names : sequence of str
        All labels of the data set, in order; those without values do not occur in these label maps.
    option : str
        Where the values are from, for messages.

    Raises
    ------
    InputError
        If a value is no whole number, or given twice.
    """
    for name, texts in named.items():
        for text in texts:
            if not re.fullmatch(r"-?[0-9]{1,10}", text) or abs(int(text)) >= LARGEST_VALUE:
                raise InputError(
                    f"{option} {name}={','.join(texts)}: write NAME=VALUE or NAME=VALUE,VALUE with whole numbers, or "
                    "{structure} in the pattern of the labels if these are names of mask files."
                )
    values = {name: tuple(int(text) for text in named.get(name, ())) for name in names}
    every = [value for group in values.values() for value in group]
    twice = next((value for value in every if every.count(value) > 1), None)
    if twice is not None:
        raise InputError(f"{option}: the value {twice} is given twice; every value can have one name only.")
    return LabelScheme(values)


def mask_files(named: Entries, option: str) -> Entries:
    """Return what stands for ``{structure}`` in the names of the mask files of every structure.

    Raises
    ------
    InputError
        If a file is given twice.
    """
    masks = {name: parts for name, parts in named.items() if name != BACKGROUND}
    every = [part for parts in masks.values() for part in parts]
    twice = next((part for part in every if every.count(part) > 1), None)
    if twice is not None:
        raise InputError(f"{option}: the mask {twice} is given twice; every mask can have one name only.")
    return masks


def labels_per_branch(
    groups: Sequence[Sequence[str]], names: Sequence[str], branches: Sequence[str]
) -> dict[str, Entries]:
    """Read ``--labels_of BRANCH NAME=VALUE ...``, which may leave structures out.

    Parameters
    ----------
    groups : sequence of sequence of str
        What follows each occurrence of the option.
    names : sequence of str
        All labels of the data set.
    branches : sequence of str
        All branches.

    Raises
    ------
    InputError
        If a branch or label is unknown or given twice, or an entry is malformed.
    """
    labels: dict[str, Entries] = {}
    for branch, *entries in groups:
        if branch not in branches:
            raise InputError(f"--labels_of {branch}: there is no such branch; write BRANCH NAME=VALUE ...")
        if branch in labels:
            raise InputError(f"--labels_of: {branch} is given twice; give all its labels at once.")
        option = f"--labels_of {branch}"
        labels[branch] = name_labels(entries, option)
        unknown = next((name for name in labels[branch] if name not in names), None)
        if unknown is not None:
            raise InputError(f"{option}: --labels does not name {unknown}; add it there, or correct the name.")
    return labels
