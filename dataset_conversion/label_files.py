"""Reading the label of a case, with the values that nnU-Net wants: a label map, or one mask per structure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet import scans
from rl_nnunet.dataset_conversion.cases import LabelScheme
from rl_nnunet.errors import InputError
from rl_nnunet.label_maps import map_values, whole_numbers


def read_label_map(path: Path, scheme: LabelScheme) -> tuple[sitk.Image, list[str]]:
    """Read a label map and give its labels nnU-Net's values.

    Returns
    -------
    SimpleITK.Image
        The label map, uint8.
    list of str
        Notices on stray values.

    Raises
    ------
    InputError
        As `read_volume`, and if a value is unknown, or all is background where the scheme does not allow it.
    """
    image = scans.read_volume(path)
    raw = whole_numbers(image)
    label_map, unknown = map_values(image, scheme.mapping)
    if unknown:
        known = ", ".join(f"{name} {'/'.join(map(str, raws))}" for name, raws in scheme.values.items())
        raise InputError(f"{path} holds the unknown label value {unknown}; known are {known}: correct the file.")
    names = list(scheme.values)
    notices = [
        f"stray label value {value} taken as {names[scheme.mapping[value]]}"
        for value in sorted(scheme.stray)
        if (raw == value).any()
    ]
    if scans.is_blank(label_map):
        refusal = f"{path} is empty, all of it is background; correct the label, or remove the case."
        notices += _accept_empty(scheme, refusal)
    return label_map, notices


def read_masks(masks: dict[str, Sequence[Path]], scheme: LabelScheme) -> tuple[sitk.Image, list[str]]:
    """Join masks; where they overlap, the structure that the scheme names later has the voxel.

    Parameters
    ----------
    masks : dict of str to sequence of Path
        The mask files of each structure: 0 outside of it, any one value inside.
    scheme : LabelScheme
        The labels.

    Returns
    -------
    SimpleITK.Image
        The label map, uint8.
    list of str
        Notices if masks overlap, or all are empty.

    Raises
    ------
    InputError
        If a file is unreadable or no mask, the masks do not lie on one grid, or all of them are empty.
    """
    paths = [(value, path) for name, value in scheme.names.items() for path in masks.get(name, ())]
    reference_path = paths[0][1]
    reference = scans.read_volume(reference_path)
    labels = np.zeros(sitk.GetArrayViewFromImage(reference).shape, np.uint8)
    overlap = 0
    for value, path in paths:
        mask = scans.read_volume(path)
        scans.take_geometry(mask, path, reference, reference_path)
        inside = _inside(mask, path)
        overlap += np.count_nonzero(~np.isin(labels[inside], (0, value)))
        labels[inside] = value
    notices = _overlap_notices(overlap)
    if not labels.any():
        notices += _accept_empty(
            scheme,
            f"{reference_path} and the masks beside it are empty; correct them, remove the case, or add "
            "--allow_empty_labels.",
        )
    label_map = sitk.GetImageFromArray(labels)
    label_map.CopyInformation(reference)
    return label_map, notices


def _inside(mask: sitk.Image, path: Path) -> np.ndarray:
    values = sitk.GetArrayViewFromImage(mask)
    inside = values != 0
    found = np.unique(values[inside])
    if len(found) > 1:
        raise InputError(
            f"{path} holds several values ({', '.join(map(str, found[:5]))}), and is no mask; correct the file, or "
            "give a label map, without {structure}."
        )
    return inside


def _overlap_notices(voxels: int) -> list[str]:
    """Say how many voxels are in several masks: the power of ten, so that cases can share a notice."""
    if not voxels:
        return []
    return [f"fewer than {10 ** len(str(voxels)):,} voxels lie in several masks and get the later label"]


def _accept_empty(scheme: LabelScheme, refusal: str) -> list[str]:
    """Return the notice on a label that is all background, or refuse it where the scheme does not allow it."""
    if not scheme.may_be_empty:
        raise InputError(refusal)
    return ["the label is empty, all of it is background"]
