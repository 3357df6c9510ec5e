"""Runs side by side: paired differences, case by case, with Wilcoxon's signed-rank test.

Tested is from `FEWEST_CASES` pairs on; with fewer, no outcome can be significant at 0.05. Holm's correction is over all
tests of one metric: all pairs of runs, branches, structures and the mean.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report.distances import METRICS
from rl_nnunet.evaluation.report.tables import DIGITS, TITLES, number, spread, with_means

FEWEST_CASES = 6
KEY = ["branch", "structure"]


def compare(measured: pd.DataFrame) -> pd.DataFrame:
    """Compare each pair of runs on the cases that both have.

    Returns
    -------
    DataFrame
        A row per metric, pair of runs (``one``, ``other``), branch and structure: ``pairs``, mean and SD of the
        difference ``other - one``, ``p``, and ``p_holm``; NaN where nothing was tested.

    Raises
    ------
    InputError
        If two runs have no case in common, or a case with another reference.
    """
    rows = with_means(measured)
    tables = []
    for one, other in itertools.combinations(measured["run"].drop_duplicates(), 2):
        _check_references(measured, one, other)
        left, right = (rows[rows["run"] == run].set_index(["branch", "case", "structure"]) for run in (one, other))
        for metric in METRICS:
            differences = (right[metric] - left[metric]).dropna()
            groups = differences.groupby(KEY, sort=False)
            table = groups.agg(pairs="size", difference="mean", sd="std", p=signed_rank_p).reset_index()
            table.insert(0, "other", other)
            table.insert(0, "one", one)
            table.insert(0, "metric", metric)
            tables.append(table)
    together = pd.concat(tables, ignore_index=True)
    together["p_holm"] = together.groupby("metric")["p"].transform(holm)
    order = {name: place for place, name in enumerate(rows["structure"].drop_duplicates())}
    together["metric"] = pd.Categorical(together["metric"], METRICS)
    keys = {"structure": lambda column: column.map(order)}
    together = together.sort_values(
        ["metric", "one", "other", *KEY], key=lambda column: keys.get(column.name, lambda same: same)(column)
    )
    return together.astype({"metric": str}).reset_index(drop=True)


def signed_rank_p(differences: pd.Series) -> float:
    """Return the two-sided p of Wilcoxon's test; NaN with fewer than `FEWEST_CASES`, 1 without any difference."""
    if len(differences) < FEWEST_CASES:
        return np.nan
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: pd.Series) -> pd.Series:
    """Return p values with Holm's step-down correction; NaN is no test."""
    known = p.dropna().sort_values()
    corrected = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1)
    return corrected.reindex(p.index)


def comparison_texts(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return a comparison for people, a text per cell."""
    texts = pd.DataFrame({"metric": comparison["metric"].map(TITLES)})
    texts["difference"] = comparison["other"] + " − " + comparison["one"]
    texts[KEY] = comparison[KEY]
    texts["pairs"] = comparison["pairs"].astype(str)
    texts["mean ± SD"] = [
        spread(row.difference, row.sd, DIGITS[row.metric]) for row in comparison.itertuples(index=False)
    ]
    texts["p"] = [number(value, 4) for value in comparison["p"]]
    texts["p (Holm)"] = [number(value, 4) for value in comparison["p_holm"]]
    return texts


def _check_references(measured: pd.DataFrame, one: str, other: str) -> None:
    left, right = (measured[measured["run"] == run].set_index(["case", "structure"]) for run in (one, other))
    common = left.index.intersection(right.index)
    if common.empty:
        raise InputError(f"{one} and {other} have no case in common; compare runs of the same fold or test set.")
    left, right = left.loc[common], right.loc[common]
    differing = common[left["reference_voxels"].to_numpy() != right["reference_voxels"].to_numpy()]
    if len(differing):
        raise InputError(
            f"The references of the case {differing[0][0]} differ between {one} and {other}; compare runs on the same "
            "references, with -r."
        )
    for (case, _), before, after in zip(common, left["branch"], right["branch"], strict=True):
        if before != after:
            raise InputError(
                f"The case {case} is of {before} in {one}, of {after} in {other}; name the folder of the images "
                "with -i."
            )
