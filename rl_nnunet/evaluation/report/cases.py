"""Measuring the cases of a run, in parallel: one row per case and structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report.distances import compare_masks
from rl_nnunet.evaluation.report.runs import CaseFiles, Run
from rl_nnunet.parallel import errors_in, report_on_all
from rl_nnunet.presence.cases import branches_with, constant_value
from rl_nnunet.scans import READ_ERRORS, check_name

ALL = "all"
"""The branch of cases whose images are not known."""
SPACING_TOLERANCE = 0.01
"""Voxels of a reference and its prediction are of one size if they differ by no more than this part."""


@dataclass
class Measured:
    """What was found of one case, or the sentence if it cannot be used."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


def measure(run: Run, tolerance: float, processes: int) -> pd.DataFrame:
    """Measure all cases of a run.

    Returns
    -------
    DataFrame
        One row per case and structure, in this order: ``run``, ``branch``, ``case``, ``structure``, the metrics of
        `rl_nnunet.evaluation.report.distances`, and the voxels of reference and prediction.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    work = partial(measure_case, run=run, tolerance=tolerance)
    reports = report_on_all(work, run.cases, processes, f"Measuring {run.name}")
    return pd.DataFrame([{"run": run.name, **row} for report in reports for row in report.rows])


def measure_case(case: CaseFiles, run: Run, tolerance: float) -> Measured:
    """Measure one case; voxels that the reference ignores belong to nothing, neither there nor in the prediction."""
    measured = Measured(case.name)
    with errors_in(measured, f"the case {case.name}", str):
        reference, spacing = _read(case.reference, run.reader.read_seg)
        prediction, other_spacing = _read(case.prediction, run.reader.read_seg)
        _check_grids(case, reference, spacing, prediction, other_spacing)
        counted = np.ones(reference.shape, bool) if run.ignore_label is None else reference != run.ignore_label
        branch = _branch(case, run)
        for structure, values in run.structures.items():
            masks = [np.isin(array, np.atleast_1d(values)) & counted for array in (reference, prediction)]
            measured.rows.append(
                {"branch": branch, "case": case.name, "structure": structure}
                | compare_masks(*masks, spacing, tolerance)
                | {"reference_voxels": int(masks[0].sum()), "prediction_voxels": int(masks[1].sum())}
            )
    return measured


def _read(path: Path, read: Any) -> tuple[np.ndarray, list[float]]:
    """Return what one of nnU-Net's readers finds in a file, without its channel axis, and the spacing in mm."""
    check_name(path)
    try:
        values, properties = read(str(path))
    except READ_ERRORS:
        raise InputError(f"{path} is not a readable image; make it anew, or remove the case.") from None
    return values[0], list(properties["spacing"])


def _check_grids(
    case: CaseFiles, reference: np.ndarray, spacing: list[float], prediction: np.ndarray, other_spacing: list[float]
) -> None:
    for what, one, other in (
        ("an array", reference.shape, prediction.shape),
        ("voxels (mm)", tuple(np.round(spacing, 4).tolist()), tuple(np.round(other_spacing, 4).tolist())),
    ):
        if len(one) != len(other) or not np.allclose(one, other, rtol=SPACING_TOLERANCE if "mm" in what else 0):
            raise InputError(
                f"{case.prediction} has {what} of {other}, its reference {case.reference} of {one}; evaluate the "
                "prediction on the grid of its reference."
            )


def _branch(case: CaseFiles, run: Run) -> str:
    """Return the names of the branches that a case has, such as ``CT+MRI``."""
    if not case.images:
        return ALL
    present = [channel for channel, path in case.images.items() if _shows_something(path, run.reader)]
    return "+".join(branches_with(run.layout, present)) or ALL


def _shows_something(path: Path, reader: Any) -> bool:
    return constant_value(_read(path, lambda name: reader.read_images((name,)))[0]) is None
