"""What a classifier is judged by: scikit-learn's metrics of labels and probabilities, each case once.

Zhu et al. (see `rl_nnunet.networks.intra_inter_net`), section 3.1, state accuracy, precision, recall and F1, each class
against the others, and the mean over the classes. They state neither weights nor what a class without predictions
counts: we take plain (macro) means, and 0 for it. Beside these stand the balanced accuracy, which is the mean recall
and what unbalanced data need, and the area under the ROC curve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from rl_nnunet.files import new_file

MEANS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of some cases, in [0, 1].

    Parameters
    ----------
    accuracy : float
        Share of the cases whose most probable class is the true one.
    balanced_accuracy : float
        Mean recall of the classes that occur.
    precision, recall, f1 : float
        Means over all classes; 0 for a class that is never predicted, or does not occur.
    auc : float
        Mean area under the ROC curve of the classes against the others, of those that occur and of which other cases
        do; NaN where there is none.
    classes : dict
        Per class ``precision``, ``recall``, ``f1``, ``auc`` and ``cases``.
    confusion : list of list of int
        Cases by true class (rows) and predicted class (columns).
    """

    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float
    classes: dict[str, dict[str, float]]
    confusion: list[list[int]]


def classification_metrics(
    labels: Sequence[int], probabilities: np.ndarray, names: Sequence[str]
) -> ClassificationMetrics:
    """Return the metrics of some cases.

    Parameters
    ----------
    labels : sequence of int
        True class of each case.
    probabilities : array
        (cases, classes).
    names : sequence of str
        Of the classes.

    Raises
    ------
    ValueError
        If there is no case, or the numbers of cases or classes differ.
    """
    truth, probabilities = np.asarray(labels), np.asarray(probabilities)
    if not len(truth) or probabilities.shape != (len(truth), len(names)):
        raise ValueError(f"{len(truth)} labels of {len(names)} classes, but probabilities {probabilities.shape}")
    predicted, numbers = probabilities.argmax(1), np.arange(len(names))
    precision, recall, f1, cases = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    areas = [_area(truth == number, probabilities[:, number]) for number in numbers]
    known = [area for area in areas if not math.isnan(area)]
    per_class = {
        name: {"precision": p, "recall": r, "f1": f, "auc": a, "cases": n}
        for name, p, r, f, a, n in zip(
            names, precision.tolist(), recall.tolist(), f1.tolist(), areas, cases.tolist(), strict=True
        )
    }
    return ClassificationMetrics(
        float((predicted == truth).mean()),
        float(recall[cases > 0].mean()),
        float(precision.mean()),
        float(recall.mean()),
        float(f1.mean()),
        float(np.mean(known)) if known else math.nan,
        per_class,
        confusion_matrix(truth, predicted, labels=numbers).tolist(),
    )


def _area(is_class: np.ndarray, probability: np.ndarray) -> float:
    return float(roc_auc_score(is_class, probability)) if 0 < is_class.sum() < len(is_class) else math.nan


def format_metrics(metrics: ClassificationMetrics) -> str:
    """Return the metrics as lines for a log: the means, each class, the confusion matrix."""
    width = max(len(name) for name in metrics.classes)
    lines = [", ".join(f"{name} {_shown(getattr(metrics, name))}" for name in MEANS)]
    for (name, values), row in zip(metrics.classes.items(), metrics.confusion, strict=True):
        shown = ", ".join(f"{key} {_shown(values[key])}" for key in ("precision", "recall", "f1", "auc"))
        predicted = " ".join(f"{number:>4}" for number in row)
        lines.append(f"{name:<{width}}  {shown}; {values['cases']} cases, predicted as each class:{predicted}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def write_summary(
    file: Path, metrics: ClassificationMetrics, labels: Mapping[str, int], probabilities: Mapping[str, np.ndarray]
) -> None:
    """Write metrics and cases as JSON; what is undefined is null.

    Parameters
    ----------
    file : Path
        Replaced in one step.
    metrics : ClassificationMetrics
        Of the cases.
    labels : mapping of str to int
        True class of each case, at least of those with probabilities.
    probabilities : mapping of str to array
        (classes,) of each case.
    """
    names = list(metrics.classes)
    cases = {
        case: {
            "label": names[labels[case]],
            "prediction": names[int(np.argmax(values))],
            "probabilities": dict(zip(names, map(float, values), strict=True)),
        }
        for case, values in probabilities.items()
    }
    content = _without_nan({"metrics": asdict(metrics), "cases": cases})
    with new_file(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False), encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
