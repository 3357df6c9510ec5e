"""What stands in a report, and in which order."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from rl_nnunet import __version__
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report import pictures
from rl_nnunet.evaluation.report.comparison import FEWEST_CASES, compare, comparison_texts
from rl_nnunet.evaluation.report.page import Picture, Section, Table
from rl_nnunet.evaluation.report.runs import Run
from rl_nnunet.evaluation.report.tables import case_texts, cases_to_show, number, summarize, summary_texts
from rl_nnunet.evaluation.subset_report import PER_SUBSET
from rl_nnunet.evaluation.subsets import CASES, CONVENTIONS
from rl_nnunet.training_log import read_training_log

PROGRESS_PICTURE = "progress_rl.png"
PACKAGES = ("nnunetv2", "torch", "numpy", "scipy", "pandas", "SimpleITK")
CONVENTION_TEXTS = (
    "Mean ± SD (n − 1) over cases; the row “mean” is over each case's mean of its structures. NSD: normalized surface "
    "Dice, the share of both surfaces' voxels within {tolerance:g} mm of the other surface. HD95: the larger 95th "
    "percentile of the distances from one surface to the other and back. MSD: the mean of all these distances.",
    "A structure that is absent (neither in the reference nor in the prediction) has no value, nnU-Net's NaN, and is "
    "left out. One that is missed (only in the reference) or invented (only in the prediction) has a Dice and an NSD "
    "of 0 and no distance: read means of distances beside “with distances”, the number of cases that have one. In the "
    "row “mean”, absent, missed and invented are counted over all structures.",
)


def write_tables(folder: Path, measured: pd.DataFrame) -> None:
    """Write the tables for programs."""
    measured.to_csv(folder / "cases.csv", index=False)
    summarize(measured).to_csv(folder / "summary.csv")
    if measured["run"].nunique() > 1:
        compare(measured).to_csv(folder / "comparison.csv", index=False)


def sections(
    runs: Sequence[Run], measured: pd.DataFrame, subsets: pd.DataFrame | None, tolerance: float
) -> list[Section]:
    """Return the sections of the report, the summary first."""
    left = 2 + (len(runs) > 1)
    contents = [
        Section(
            "Summary",
            [text.format(tolerance=tolerance) for text in CONVENTION_TEXTS] + _warnings(runs),
            [Table(summary_texts(summarize(measured)), left)],
        )
    ]
    if len(runs) > 1:
        contents.append(_comparison(measured))
    contents.append(
        Section("Distribution", ["Box: quartiles and median; each dot is a case."], pictures=[_box_plots(measured)])
    )
    contents.append(_overlays(runs, measured))
    if subsets is not None:
        contents.append(_subsets(subsets))
    trainings = [picture for run in runs for fold in run.folds for picture in _training(run, fold)]
    if trainings:
        contents.append(Section("Training", pictures=trainings))
    contents.append(Section("Every case", tables=[Table(case_texts(measured), left + 1)]))
    contents.append(_origin(runs))
    return contents


def _warnings(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.name}: {run.unpredicted} references have no prediction and are not counted."
        for run in runs
        if run.unpredicted
    ]


def _training(run: Run, fold: Path) -> list[Picture]:
    """Return nnU-Net's curves of a fold, and the picture that our trainers and agents draw."""
    log, drawn = read_training_log(fold), fold / PROGRESS_PICTURE
    found = [] if log.empty else [Picture(f"{run.name}, {fold.name}: losses and pseudo Dice", pictures.curves(log))]
    if drawn.is_file():
        found.append(Picture(f"{run.name}, {fold.name}: trainer and agents", pictures.picture(drawn)))
    return found


def _comparison(measured: pd.DataFrame) -> Section:
    text = (
        "Differences case by case, on the cases that both have. p: Wilcoxon's signed-rank test, two-sided, from "
        f"{FEWEST_CASES} pairs on; p (Holm): corrected for all tests of the metric in this table. Distances are "
        "compared only where both have one."
    )
    return Section("Comparison", [text], [Table(comparison_texts(compare(measured)), 4)])


def _box_plots(measured: pd.DataFrame) -> Picture:
    return Picture("Dice, NSD, HD95 and MSD per structure", pictures.box_plots(measured))


def _overlays(runs: Sequence[Run], measured: pd.DataFrame) -> Section:
    """Return the worst, the median and the best case of each run and branch."""
    from tqdm import tqdm

    files = {(run.name, case.name): (case, run) for run in runs for case in run.cases}
    shown = [
        Picture(
            f"{row.run}, {row.branch}: {row.place} case, {row.case}, Dice {number(row.dice, 3)}",
            pictures.overlay(*files[row.run, row.case]),
        )
        for row in tqdm(list(cases_to_show(measured).itertuples()), desc="Drawing", unit="case")
    ]
    text = "By a case's mean Dice. Contours: reference drawn through, prediction dashed."
    return Section("Worst, median and best case", [text], pictures=shown)


def read_subset_table(folder: Path) -> pd.DataFrame:
    """Return the table of Dice per subset that ``rl_nnunet_evaluate_subsets`` has written.

    Raises
    ------
    InputError
        If there is none.
    """
    file = folder / PER_SUBSET
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError):
        raise InputError(f"{file} is missing or no table; run rl_nnunet_evaluate_subsets with -o {folder}.") from None
    if not {"subset", "convention", CASES} <= set(table):
        raise InputError(f"{file} is not from rl_nnunet_evaluate_subsets; name its output with --subsets.")
    return table


def _subsets(table: pd.DataFrame) -> Section:
    texts = table.drop(columns="convention").copy()
    for name in texts.columns.drop(["subset", CASES]):
        texts[name] = [number(value, 4) for value in texts[name]]
    texts[CASES] = texts[CASES].astype(str)
    tables = [Table(texts[table["convention"] == convention], 1) for convention in CONVENTIONS]
    text = "Mean Dice of each subset of the modalities. First " + "; then ".join(CONVENTIONS.values()) + "."
    return Section("Subsets of modalities", [text], tables)


def _origin(runs: Sequence[Run]) -> Section:
    versions = [f"rl_nnunet {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{package} {version(package)}" for package in PACKAGES]
    lines = [
        shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "",
        ", ".join(versions),
        *(f"{run.name}: {len(run.cases)} cases in {run.source}" for run in runs),
        f"Made on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}.",
    ]
    return Section("Versions and command", code="\n".join(lines))
