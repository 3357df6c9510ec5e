"""Measuring the cases of a run, in parallel: one row per case and structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report.distances import compare_masks
from rl_nnunet.evaluation.report.runs import CaseFiles, Run
from rl_nnunet.label_maps import check_labels, label_values
from rl_nnunet.parallel import errors_in, report_on_all
from rl_nnunet.presence.cases import branches_with, constant_value
from rl_nnunet.scans import check_file, reading

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


def measure(runs: Sequence[Run], tolerance: float, processes: int) -> pd.DataFrame:
    """Measure all cases of some runs.

    Returns
    -------
    DataFrame
        One row per run, case and structure, in this order: ``run``, ``branch``, ``case``, ``structure``, the metrics of
        `rl_nnunet.evaluation.report.distances`, and the voxels of reference and prediction.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    # Processes get each item by itself: without all the other cases.
    items = [(case, replace(run, cases=())) for run in runs for case in run.cases]
    reports = report_on_all(partial(measure_case, tolerance=tolerance), items, processes, "Measuring")
    return pd.DataFrame([row for report in reports for row in report.rows])


def measure_case(item: tuple[CaseFiles, Run], tolerance: float) -> Measured:
    """Measure one case; voxels that the reference ignores belong to nothing, neither there nor in the prediction."""
    case, run = item
    measured = Measured(case.name)
    with errors_in(measured, f"the case {case.name}", str):
        known = label_values(run.structures.values(), run.ignore_label)
        reference, spacing = _read(case.reference, run.reader.read_seg)
        prediction, other_spacing = _read(case.prediction, run.reader.read_seg)
        reference = check_labels(case.reference, reference, known)
        prediction = check_labels(case.prediction, prediction, known)
        _check_grids(case, (reference.shape, spacing), (prediction.shape, other_spacing))
        counted = np.ones(reference.shape, bool) if run.ignore_label is None else reference != run.ignore_label
        branch = _branch(case, run)
        for structure, values in run.structures.items():
            masks = [np.isin(array, np.atleast_1d(values)) & counted for array in (reference, prediction)]
            measured.rows.append(
                {"run": run.name, "branch": branch, "case": case.name, "structure": structure}
                | compare_masks(*masks, spacing, tolerance)
                | {"reference_voxels": int(masks[0].sum()), "prediction_voxels": int(masks[1].sum())}
            )
    return measured


def _read(path: Path, read: Any) -> tuple[np.ndarray, list[float]]:
    """Return what one of nnU-Net's readers finds in a file, without its channel axis, and the spacing in mm."""
    check_file(path)
    with reading(path, f"{path} is not a readable image; make it anew, or remove the case."):
        values, properties = read(str(path))
    return values[0], list(properties["spacing"])


def _check_grids(case: CaseFiles, reference: tuple[Any, Any], prediction: tuple[Any, Any]) -> None:
    """Refuse a prediction whose shape or spacing is not that of its reference."""
    (shape, spacing), (other_shape, other_spacing) = reference, prediction
    if shape != other_shape:
        what, one, other = "an array", shape, other_shape
    elif not np.allclose(spacing, other_spacing, rtol=SPACING_TOLERANCE, atol=0):
        what, one, other = "voxels", _millimeters(spacing), _millimeters(other_spacing)
    else:
        return
    raise InputError(
        f"{case.prediction} has {what} of {other}, its reference {case.reference} of {one}; evaluate the prediction on "
        "the grid of its reference."
    )


def _millimeters(spacing: Sequence[float]) -> str:
    return "x".join(f"{edge:.4g}" for edge in spacing) + " mm"


def _branch(case: CaseFiles, run: Run) -> str:
    """Return the names of the branches that a case has, such as ``CT+MRI``."""
    if not case.images:
        return ALL
    present = [channel for channel, path in case.images.items() if _shows_something(path, run.reader)]
    return "+".join(branches_with(run.layout, present)) or ALL


def _shows_something(path: Path, reader: Any) -> bool:
    return constant_value(_read(path, lambda name: reader.read_images((name,)))[0]) is None
