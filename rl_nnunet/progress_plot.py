"""The second progress picture: what trainer and agents did, and how an epoch's value is made of those of its steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_nnunet.files import new_file

LINE_STYLES = ("-", "--", "-.", ":")
"""Which also tell the curves apart in print without color."""


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are no NaN; NaN where there is none."""
    count = (~np.isnan(values)).sum()
    return float(np.nansum(values) / count) if count else float("nan")


def last(values: np.ndarray) -> float:
    """Return the last value that is no NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else float("nan")


def most_frequent(values: np.ndarray) -> float:
    """Return the most frequent of some indices, the lowest of equally frequent ones; NaN where there is none."""
    known = values[~np.isnan(values)].astype(int)
    return float(np.bincount(known).argmax()) if len(known) else float("nan")


class Panel(NamedTuple):
    """One panel of the picture, which is also where its log keys are named.

    Attributes
    ----------
    title, label : str
        Of the panel and of its vertical axis. Panels of one title are drawn as one.
    keys : tuple of str
        Log keys, a curve each.
    reduction : callable or None
        Makes an epoch's value of those of its steps; None for keys that a trainer logs itself, once an epoch.
    """

    title: str
    label: str
    keys: tuple[str, ...]
    reduction: Callable[[np.ndarray], float] | None = mean


def reduce_steps(panels: Iterable[Panel], steps: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return an epoch's value of every key that has a reduction; steps without a key count as NaN there."""
    return {
        key: panel.reduction(np.array([float(step.get(key, np.nan)) for step in steps]))
        for panel in panels
        if panel.reduction is not None
        for key in panel.keys
    }


def merge_panels(panels: Iterable[Panel]) -> list[Panel]:
    """Join the panels of one title, in the order in which the titles come."""
    merged: dict[str, Panel] = {}
    for panel in panels:
        before = merged.get(panel.title)
        merged[panel.title] = panel if before is None else before._replace(keys=before.keys + panel.keys)
    return list(merged.values())


def plot_progress(log: dict[str, Sequence[Any]], panels: Iterable[Panel], file: str) -> None:
    """Draw the curves of our log keys.

    Parameters
    ----------
    log : dict
        nnU-Net's local log, one value per epoch.
    panels : iterable of Panel
        What to draw, from top to bottom.
    file : str
        Picture to write; replaced in one step.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    merged = merge_panels(panels)
    # nnU-Net's own picture sets a style and a font size for the whole process.
    with plt.rc_context(matplotlib.rcParamsDefault):
        figure, axes = plt.subplots(
            len(merged), 1, figsize=(10, 4 * len(merged)), sharex=True, squeeze=False, layout="constrained"
        )
        for axis, panel in zip(axes[:, 0], merged, strict=True):
            for key, style in zip(panel.keys, itertools.cycle(LINE_STYLES)):
                axis.plot(log[key], style, label=key, marker="." if len(log[key]) < 50 else None)
            axis.set(title=panel.title, ylabel=panel.label)
            if axis.lines:
                axis.legend(fontsize="small", ncols=2)
            axis.grid(alpha=0.3)
        axes[-1, 0].set_xlabel("epoch")
        with new_file(file) as unfinished:
            figure.savefig(unfinished, dpi=80)
    plt.close(figure)
