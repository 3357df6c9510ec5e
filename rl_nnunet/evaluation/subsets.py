"""Subsets of modalities: Dice in two conventions, the table of a paper, and how often one modality more does harm.

Everything here starts from *counts*: a table with one row per subset, case and label, and the columns `COUNT_COLUMNS`.

``subset``
    The modalities that were asked for, as `subset_name` writes them.
``present``
    Those of them that the case has: two subsets of one case with the same ``present`` are one and the same prediction.
``case``, ``label``
    The case, and the label or region.
``tp``, ``fp``, ``fn``
    Voxels in both reference and prediction, in the prediction only, in the reference only.

Conventions differ in what they make of them:

``nnunet``
    As nnU-Net's ``summary.json``: NaN where reference and prediction are both empty; means leave NaN out.
``field``
    As BraTS and the papers on missing modalities: 1 where both are empty. Regions of fewer than a number of voxels can
    be erased from the prediction first: BraTS's winners turn an enhancing tumor of under 500 voxels into necrosis. As
    there, only the score of the region itself changes, not that of regions that contain it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

Convention = Literal["nnunet", "field"]
CONVENTIONS: dict[Convention, str] = {
    "nnunet": "nnU-Net's convention (NaN where reference and prediction are both empty)",
    "field": "The field's convention (1 where reference and prediction are both empty)",
}
COUNT_COLUMNS = ("subset", "present", "case", "label", "tp", "fp", "fn")
INDEX = ["subset", "present", "case"]
MEAN, CASES, ANY = "mean", "cases", "any"
TOLERANCE = 1e-6
"""A Dice that falls by no more has not fallen."""
AVAILABLE, MISSING = "●", "○"


def all_subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all 2^N - 1 non-empty subsets, small ones first, each in the order of the modalities."""
    sizes = range(1, len(modalities) + 1)
    return [subset for size in sizes for subset in itertools.combinations(modalities, size)]


def subset_name(subset: Sequence[str]) -> str:
    """Return the name of a subset, such as ``T1+FLAIR``."""
    return "+".join(subset)


def dice_per_case(
    counts: pd.DataFrame, convention: Convention = "nnunet", erase: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return the Dice of each subset and case.

    Parameters
    ----------
    counts : DataFrame
        See the module.
    convention : {"nnunet", "field"}
        See the module.
    erase : mapping of str to int, optional
        Voxels that a label needs in the prediction not to be erased from it; for the field's convention only.

    Returns
    -------
    DataFrame
        Index ``subset``, ``present`` and ``case``, one column per label, in the order of the counts.
    """
    tp, fp, fn = (counts[name] for name in ("tp", "fp", "fn"))
    if convention == "field":
        erased = tp + fp < counts["label"].map(dict(erase or {})).fillna(0)
        tp, fp, fn = tp.mask(erased, 0), fp.mask(erased, 0), fn.mask(erased, tp + fn)
    dice = 2 * tp / (2 * tp + fp + fn)
    if convention == "field":
        dice = dice.fillna(1.0)
    long = counts[[*INDEX, "label"]].assign(dice=dice)
    wide = long.pivot(index=INDEX, columns="label", values="dice").rename_axis(columns=None)
    order = pd.MultiIndex.from_frame(counts[INDEX].drop_duplicates())
    return wide.reindex(order)[list(dict.fromkeys(counts["label"]))]


def mean_per_subset(dice: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the cases of each subset, NaN left out, and below it the mean over the subsets.

    The column ``mean`` is the mean over labels, as nnU-Net's ``foreground_mean``; ``cases`` is the number of cases that
    have one of the subset's modalities.
    """
    groups = dice.groupby("subset", sort=False)
    table = groups.mean()
    table[MEAN] = table.mean(axis=1)
    table.loc[MEAN] = table.mean()
    table[CASES] = groups.size()
    table.loc[MEAN, CASES] = dice.index.get_level_values("case").nunique()
    return table.astype({CASES: int})


def harm_of_adding(dice: pd.DataFrame, modalities: Sequence[str], tolerance: float = TOLERANCE) -> pd.DataFrame:
    """Count how often a case gets worse when a modality is *added*: the counterintuitive rate.

    It is a share of pairs: a case, a non-empty subset S of the modalities that this case has, and one modality more
    that it has, too. A pair is worse if the case's mean Dice with S and that modality is below its mean Dice with S by
    more than `tolerance`. The mean is over the labels whose Dice is a number with both subsets, so that like is
    compared with like; a pair without such a label does not count. (In nnU-Net's convention, a label that appears where
    there is none turns NaN into 0, which is left out here. In the field's it turns 1 into 0, and counts.)

    Parameters
    ----------
    dice : DataFrame
        From `dice_per_case`.
    modalities : sequence of str
        All modalities.
    tolerance : float
        See above.

    Returns
    -------
    DataFrame
        Columns ``pairs``, ``worse`` and ``rate`` (NaN without pairs), a row per modality that is added, then ``any``.
    """
    levels = dice.index.to_frame()
    # Elsewhere, the case lacks one of the modalities: the prediction is that of a smaller subset, which is counted.
    distinct = dice[levels["subset"] == levels["present"]].droplevel("present")
    rows = {}
    for added in modalities:
        pairs = worse = 0
        for subset in all_subsets([name for name in modalities if name != added]):
            larger = [name for name in modalities if name == added or name in subset]
            before, after = (_of_subset(distinct, subset_name(names)) for names in (subset, larger))
            change = (after - before).dropna(how="all").mean(axis=1)
            pairs += len(change)
            worse += int((change < -tolerance).sum())
        rows[added] = {"pairs": pairs, "worse": worse}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc[ANY] = table.sum()
    table["rate"] = table["worse"] / table["pairs"]
    return table


def _of_subset(dice: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the Dice of the cases with one subset, which may be none."""
    return dice[dice.index.get_level_values("subset") == name].droplevel("subset")


# ---- Markdown ------------------------------------------------------------------------------------------------------


def subset_table(means: pd.DataFrame, modalities: Sequence[str]) -> str:
    """Return the table of `mean_per_subset` as papers have it: a filled circle for a modality that is there."""
    marks = {subset_name(s): [AVAILABLE if m in s else MISSING for m in modalities] for s in all_subsets(modalities)}
    marks[MEAN] = [f"**{MEAN}**", *[""] * (len(modalities) - 1)]
    rows = [
        [*marks[str(name)], *(_number(value) for value in row[:-1]), str(int(row[-1]))]
        for name, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return markdown_table([*modalities, *map(str, means.columns)], rows, len(modalities))


def harm_table(harm: pd.DataFrame) -> str:
    """Return the table of `harm_of_adding`."""
    rows = [
        [str(name), str(int(row.pairs)), str(int(row.worse)), _number(row.rate)]
        for name, row in zip(harm.index, harm.itertuples(), strict=True)
    ]
    return markdown_table(["added modality", *harm.columns], rows, 1)


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table, the first `left` columns aligned to the left."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
