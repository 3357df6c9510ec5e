"""The values and volumes of label maps that are read already, whatever the labels are called."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet.errors import InputError

# A whole number stored with a rescale slope comes back this close to itself: 8 bits for the values up to 4 miss it by
# up to 4 / 255 / 2, 16 bits for those up to 850 by less. Anything farther off is no rounding.
WHOLE_NUMBER_TOLERANCE = 0.02
# nnU-Net writes label maps in 16 bits at most, and works through their values one by one.
LARGEST_LABEL, MOST_LABELS = (1 << 16) - 1, 1000


def map_values(image: sitk.Image, mapping: dict[int, int]) -> tuple[sitk.Image, str]:
    """Replace the values of a label map.

    Returns
    -------
    SimpleITK.Image
        The new label map, uint8; 0 where the value is unknown.
    str
        The first unknown values, as text; empty if there are none.
    """
    raw = whole_numbers(image)
    mapped = np.zeros(raw.shape, np.uint8)
    unknown = np.ones(raw.shape, bool)
    for old, new in mapping.items():
        hit = raw == old
        mapped[hit] = new
        unknown &= ~hit
    label_map = sitk.GetImageFromArray(mapped)
    label_map.CopyInformation(image)
    found = np.unique(raw[unknown])
    texts = [np.format_float_positional(value, trim="-") for value in found[:5]]
    return label_map, ", ".join(texts) + (", ..." if len(found) > 5 else "")


def whole_numbers(image: sitk.Image) -> np.ndarray:
    """Return the values of a label map; those within `WHOLE_NUMBER_TOLERANCE` of a whole number become it."""
    values = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.floating):
        return values
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < WHOLE_NUMBER_TOLERANCE, whole, values)


def label_values(structures: Iterable[int | Collection[int]], ignore_label: int | None) -> set[int]:
    """Return the values that a label map of some labels or regions may have."""
    return {0, *np.concatenate([np.atleast_1d(values) for values in structures])} | ({ignore_label} - {None})


def check_labels(path: Path, values: np.ndarray, known: Collection[int] | None = None) -> np.ndarray:
    """Return the labels of a map that one of nnU-Net's readers has read, rounded as `whole_numbers` does.

    Parameters
    ----------
    path : Path
        Its file.
    values : array
        What was read.
    known : collection of int, optional
        The values that it may have; any whole number otherwise.

    Raises
    ------
    InputError
        If it is no label map, or has other labels.
    """
    labels = np.rint(values)
    if not (np.isfinite(values).all() and (np.abs(values - labels) < WHOLE_NUMBER_TOLERANCE).all()):
        raise InputError(f"{path} is no label map, its values are not whole numbers; name the segmentation.")
    if labels.min() < 0 or labels.max() > LARGEST_LABEL:
        raise InputError(
            f"{path} is no label map, it has values from {labels.min():g} to {labels.max():g}; name the segmentation."
        )
    found = np.flatnonzero(np.bincount(labels.astype(np.uint16).ravel()))
    if len(found) > MOST_LABELS:
        raise InputError(f"{path} is no label map, it has {len(found)} different values; name the segmentation.")
    unknown = [] if known is None else [str(label) for label in found if label not in known]
    if unknown:
        raise InputError(
            f"{path} has the label values {', '.join(unknown[:5])}{', ...' * (len(unknown) > 5)}, which dataset.json "
            "does not name; correct the file, or name them."
        )
    return labels


def milliliters(label_map: sitk.Image, structures: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """Return the volume of each structure, given its label values, as far as it occurs in a uint8 label map."""
    counts = np.bincount(sitk.GetArrayViewFromImage(label_map).ravel(), minlength=256)
    voxels = {name: int(counts[list(labels)].sum()) for name, labels in structures.items()}
    voxel_size = float(np.prod(label_map.GetSpacing())) / 1000
    return {name: count * voxel_size for name, count in voxels.items() if count}
