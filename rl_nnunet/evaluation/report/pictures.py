"""The pictures of a report, as PNG in memory: box plots, overlays in three planes, curves of trainings.

Readable without color: boxes differ in shade and hatching, lines in their kind, structures have numbers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import SimpleITK as sitk
from PIL import Image

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.report.distances import METRICS
from rl_nnunet.evaluation.report.runs import CaseFiles, Run
from rl_nnunet.evaluation.report.tables import ROW, TITLES
from rl_nnunet.presence.cases import constant_value

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.patheffects import withStroke  # noqa: E402

HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
SHADES = ("0.92", "0.72", "0.55")
COLORS = ("#ffd92f", "#4dd2ff", "#ff8ad8", "#7dff7a", "#ff9f4a", "#c9b3ff")
PLANES = ("axial", "coronal", "sagittal")
MARKED_EPOCHS = 50
"""Trainings of fewer show each epoch."""
WIDTH_PER_BOX, WIDTH_PER_LETTER, WIDTHS = 0.22, 0.1, (9.0, 30.0)
"""In inches."""


def box_plots(measured: pd.DataFrame) -> bytes:
    """Draw a panel per metric: structures from left to right, and a box per run and branch for each, with its cases."""
    groups = list(measured.groupby(ROW[:2], sort=False))
    structures = list(measured["structure"].drop_duplicates())
    per_structure = max(WIDTH_PER_BOX * (len(groups) + 1), WIDTH_PER_LETTER * (max(map(len, structures)) + 2))
    width = float(np.clip(1 + per_structure * len(structures), *WIDTHS))
    with _figure(len(METRICS), 1, (width, 3.2 * len(METRICS))) as (figure, axes, png):
        for axis, metric in zip(axes[:, 0], METRICS, strict=True):
            for place, (_, group) in enumerate(groups):
                values = [group.loc[group["structure"] == name, metric].dropna().to_numpy() for name in structures]
                positions = np.arange(len(structures)) * (len(groups) + 1) + place
                drawn = axis.boxplot(values, positions=positions, widths=0.8, patch_artist=True, showfliers=False)
                for box in drawn["boxes"]:
                    box.set(**_look(place))
                for line in drawn["medians"]:
                    line.set(color="black", linewidth=2)
                for position, cases in zip(positions, values, strict=True):
                    # Apart from each other by their order: a report is the same each time.
                    axis.plot(position + np.linspace(-0.25, 0.25, len(cases)), np.sort(cases), "k.", markersize=3)
            axis.set_xticks(np.arange(len(structures)) * (len(groups) + 1) + (len(groups) - 1) / 2, structures)
            axis.set_ylabel(TITLES[metric])
            axis.grid(axis="y", alpha=0.4)
        legend = [Patch(**_look(place), label=_name(key, measured)) for place, (key, _) in enumerate(groups)]
        figure.legend(handles=legend, loc="outside upper center", ncols=min(3, len(legend)))
    return png.getvalue()


def _look(place: int) -> dict[str, str]:
    return {
        "facecolor": SHADES[place % len(SHADES)],
        "hatch": HATCHES[place % len(HATCHES)],
        "edgecolor": "black",
    }


def _name(key: tuple[str, str], measured: pd.DataFrame) -> str:
    return ", ".join(key) if measured["run"].nunique() > 1 else key[1]


def overlay(case: CaseFiles, run: Run) -> bytes:
    """Draw a case in three planes (one, if it is an image), each where most of reference and prediction lies.

    Contours of the reference are drawn through, those of the prediction dashed. Volumes are shown in radiological
    convention: the patient's right is on the left.
    """
    image, reference, prediction, spacing = _arrays(case)
    foreground = (reference > 0) | (prediction > 0)
    if run.ignore_label is not None:
        foreground &= (reference != run.ignore_label) & (prediction != run.ignore_label)
    planes = range(3) if reference.ndim == 3 else (None,)
    with _figure(1, len(planes), (12 if len(planes) > 1 else 5, 4.6)) as (figure, axes, png):
        for axis, across in zip(axes[0], planes, strict=True):
            cut = _most(foreground, across)
            height, width = (edge for place, edge in enumerate(spacing) if place != across)
            low, high = np.percentile(image[cut], (1, 99))
            axis.imshow(image[cut], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=height / width)
            _draw_contours(axis, reference[cut], run, "solid")
            _draw_contours(axis, prediction[cut], run, "dashed")
            _draw_numbers(axis, reference[cut], run)
            if across is not None:
                axis.set_title(f"{PLANES[across]}, slice {cut[across] + 1}", fontsize="medium")
            if across in (1, 2):  # the head is up
                axis.invert_yaxis()
            axis.set(xticks=[], yticks=[])
        lines = [Line2D([], [], color="black", linestyle=style) for style in ("solid", "dashed")]
        colors = [Patch(facecolor=_color(place), edgecolor="black") for place in range(len(run.structures))]
        names = ["reference", "prediction", *(f"{place + 1} {name}" for place, name in enumerate(run.structures))]
        figure.legend([*lines, *colors], names, loc="outside lower center", ncols=6, fontsize="small")
    return png.getvalue()


def _draw_contours(axis: Any, labels: np.ndarray, run: Run, style: str) -> None:
    """Draw the contours of all structures, with a dark rim that shows on bright tissue."""
    for place, values in enumerate(run.structures.values()):
        mask = np.isin(labels, np.atleast_1d(values))
        if min(mask.shape) > 1 and mask.any() and not mask.all():
            drawn = axis.contour(mask, levels=[0.5], colors=[_color(place)], linestyles=style, linewidths=1.3)
            drawn.set_path_effects([withStroke(linewidth=2.3, foreground="black")])


def _draw_numbers(axis: Any, labels: np.ndarray, run: Run) -> None:
    """Write each structure's number of the legend into it: in print without color, colors tell nothing."""
    for place, values in enumerate(run.structures.values()):
        points = np.argwhere(np.isin(labels, np.atleast_1d(values)))
        if len(points):
            row, column = points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]
            text = axis.text(column, row, str(place + 1), color="white", fontsize=9, ha="center", va="center")
            text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def _color(place: int) -> str:
    return COLORS[place % len(COLORS)]


def _most(foreground: np.ndarray, across: int | None) -> tuple[Any, ...]:
    """Return the index of the slice across an axis with the most foreground; the middle one where there is none."""
    if across is None:
        return (slice(None), slice(None))
    counts = foreground.sum(tuple(axis for axis in range(3) if axis != across))
    index = int(counts.argmax()) if counts.any() else len(counts) // 2
    return tuple(index if axis == across else slice(None) for axis in range(3))


def _arrays(case: CaseFiles) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return image, reference and prediction, volumes in the order of LPS, and their spacing, both slowest axis first.

    The image is that of the first channel that shows something; black without one on the grid of the reference.
    """
    reference = _read(case.reference)
    arrays = [sitk.GetArrayFromImage(volume) for volume in (reference, _read(case.prediction))]
    image = np.zeros(arrays[0].shape)
    for path in (case.images[channel] for channel in sorted(case.images)):
        values = sitk.GetArrayFromImage(_read(path))
        values = values.mean(axis=-1) if values.ndim > arrays[0].ndim else values
        if values.shape == arrays[0].shape and constant_value(values) is None:
            image = values
            break
    if arrays[0].shape != arrays[1].shape:
        raise InputError(f"{case.prediction} and {case.reference} have axes in another order; save them in one order.")
    return image, *arrays, reference.GetSpacing()[::-1]


def _read(path: Path) -> sitk.Image:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"{path} cannot be shown, because SimpleITK does not read it; save it as NIfTI.") from None
    return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image


def curves(log: pd.DataFrame) -> bytes:
    """Draw the losses and the mean pseudo Dice of a training, see `read_training_log`."""
    with _figure(2, 1, (9, 6)) as (figure, axes, png):
        for axis, names in zip(axes[:, 0], (log.columns[:2], log.columns[2:3]), strict=True):
            for name, style in zip(names, ("-", "--"), strict=False):
                marker = "." if len(log) < MARKED_EPOCHS else None
                axis.plot(log.index, log[name], label=name, color="black", linestyle=style, marker=marker)
            axis.legend()
            axis.grid(alpha=0.4)
        axes[1, 0].set_xlabel("epoch")
    return png.getvalue()


def picture(file: Path) -> bytes:
    """Return a picture that a training has drawn.

    Raises
    ------
    InputError
        If the file is none.
    """
    png = io.BytesIO()
    try:
        with Image.open(file) as image:
            image.save(png, "png", optimize=True)
    except (OSError, ValueError):
        raise InputError(f"{file} is no picture; remove it.") from None
    return png.getvalue()


@contextmanager
def _figure(rows: int, columns: int, size: Sequence[float]) -> Iterator[tuple[Any, np.ndarray, io.BytesIO]]:
    """Provide a figure, its axes, and where its PNG is when the block has ended."""
    png = io.BytesIO()
    # nnU-Net sets a style for the whole process.
    with plt.rc_context(matplotlib.rcParamsDefault):
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        try:
            yield figure, axes, png
            figure.savefig(png, format="png", dpi=100)
        finally:
            plt.close(figure)
