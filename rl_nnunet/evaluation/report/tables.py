"""Tables of a report: mean ± SD of each structure in each branch, and which case is the worst, the median, the best.

Means and standard deviations (of a sample, with n - 1) leave NaN out. The row ``mean`` is over the cases' own means
over structures. A structure that is in neither reference nor prediction is *absent*: it has no value. One that is
only in the reference is *missed*, one that is only in the prediction is *invented*: both have a Dice of 0 and no
distance, so that means of distances must be read beside their number.
"""

from __future__ import annotations

import pandas as pd

from rl_nnunet.evaluation.report.distances import METRICS

MEAN = "mean"
CASE = ["run", "branch", "case"]
ROW = ["run", "branch", "structure"]
COUNTS = ("absent", "missed", "invented")
TITLES = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 (mm)", "msd": "MSD (mm)"}
DIGITS = {"dice": 4, "nsd": 4, "hd95": 2, "msd": 2}


def with_means(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the measured rows with one more row per case, its mean over structures."""
    reference, prediction = measured["reference_voxels"] > 0, measured["prediction_voxels"] > 0
    kinds = (~reference & ~prediction, reference & ~prediction, ~reference & prediction)
    found = measured.assign(**dict(zip(COUNTS, kinds, strict=True))).astype(dict.fromkeys(COUNTS, int))
    rules = dict.fromkeys(METRICS, "mean") | dict.fromkeys(COUNTS, "sum")
    means = found.groupby(CASE, sort=False, as_index=False).agg(rules).assign(structure=MEAN)
    return pd.concat([found[[*means.columns]], means], ignore_index=True)


def summarize(measured: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, branch and structure: cases, `COUNTS`, and mean, SD and number of each metric."""
    rows = with_means(measured)
    groups = rows.groupby(ROW, sort=False)
    table = pd.concat([groups.size().rename("cases"), groups[list(COUNTS)].sum()], axis=1)
    for metric in METRICS:
        table[[f"{metric}_mean", f"{metric}_sd", f"{metric}_n"]] = groups[metric].agg(["mean", "std", "count"])
    # The structures of a branch together, their mean last, whatever the order of the cases.
    order = rows[["run", "branch"]].drop_duplicates().merge(rows[["structure"]].drop_duplicates(), how="cross")
    return table.loc[pd.MultiIndex.from_frame(order)]


def summary_texts(summary: pd.DataFrame) -> pd.DataFrame:
    """Return a summary for people, a text per cell."""
    texts = summary[["cases"]].astype(str)
    for metric in METRICS:
        texts[TITLES[metric]] = [
            spread(*row, DIGITS[metric]) for row in summary[[f"{metric}_mean", f"{metric}_sd"]].itertuples(index=False)
        ]
    texts["with distances"] = summary["hd95_n"].astype(str)
    texts[list(COUNTS)] = summary[list(COUNTS)].astype(str)
    texts = texts.reset_index()
    return texts if summary.index.get_level_values("run").nunique() > 1 else texts.drop(columns="run")


def case_texts(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the measured rows for people, a text per cell."""
    texts = measured[[*CASE, "structure"]].copy()
    for metric in METRICS:
        texts[TITLES[metric]] = [number(value, DIGITS[metric]) for value in measured[metric]]
    texts[["voxels", "predicted"]] = measured[["reference_voxels", "prediction_voxels"]].astype(str).to_numpy()
    return texts if measured["run"].nunique() > 1 else texts.drop(columns="run")


def number(value: float, digits: int) -> str:
    """Return a number as text, a dash for NaN."""
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def spread(mean: float, deviation: float, digits: int) -> str:
    """Return mean ± SD as text; the latter is left out where there is one case only."""
    return number(mean, digits) + ("" if pd.isna(deviation) else f" ± {number(deviation, digits)}")


def cases_to_show(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the worst, the median and the best case of each run and branch by mean Dice: ``place`` and `CASE`.

    A case that is two of these, as where there are fewer than three, comes once.
    """
    means = with_means(measured).query("structure == @MEAN and dice.notna()")
    rows = []
    for _, group in means.groupby(["run", "branch"], sort=False):
        ordered = group.sort_values(["dice", "case"])
        places = {len(ordered) - 1: "best", 0: "worst", len(ordered) // 2: "median"}
        if len(ordered) < 3:
            places = {len(ordered) - 1: "best", 0: "worst"} if len(ordered) == 2 else {0: "only"}
        rows += [{**ordered.iloc[index][[*CASE, "dice"]], "place": places[index]} for index in sorted(places)]
    return pd.DataFrame(rows, columns=[*CASE, "dice", "place"])
