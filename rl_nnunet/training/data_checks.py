"""Whether preprocessed data are what plans and ``dataset.json`` say of them.

nnU-Net trusts its files. Every function here raises `InputError`, whose sentence says what does not fit what, and what
to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rl_nnunet.branches import BranchLayout
from rl_nnunet.errors import InputError
from rl_nnunet.plans.checks import PLAN_ANEW


def check_pairing(branches_of_cases: Iterable[Sequence[str]], layout: BranchLayout) -> None:
    """Check that in a paired data set some case has several branches; looks no further than the first."""
    if not layout.is_paired or len(layout.branches) == 1:
        return
    if not any(len(branches) > 1 for branches in branches_of_cases):
        raise InputError(
            "dataset.json calls the data set paired, but no training case has more than one of the branches "
            f'{", ".join(layout.names)}; if every case is a scan of one branch, say "unpaired" there and {PLAN_ANEW}.'
        )


def check_labels(properties: Mapping[str, Any], foreground: Iterable[Any]) -> None:
    """Check that a preprocessed case was preprocessed with the labels (or regions) of the data set.

    Parameters
    ----------
    properties : mapping
        Those that nnU-Net stores with the case; its ``class_locations`` have an entry for every label or region.
    foreground : iterable
        Foreground labels or regions of nnU-Net's label manager.
    """

    def key(label: Any) -> tuple[int, ...]:
        return tuple(int(i) for i in label) if isinstance(label, list | tuple) else (int(label),)

    # With an ignore label, there is also an entry for all that is annotated, which begins with -1.
    preprocessed = {key(label) for label in properties.get("class_locations", {})} - {()}
    preprocessed = {label for label in preprocessed if label[0] >= 0}
    if preprocessed and preprocessed != {key(label) for label in foreground}:
        raise InputError(
            f"The labels of dataset.json are not the {len(preprocessed)} with which the data were preprocessed; "
            f"restore dataset.json, or {PLAN_ANEW}."
        )


def check_spacing(
    shape: Sequence[int], properties: Mapping[str, Any], transpose: Sequence[int], spacing: Sequence[float]
) -> None:
    """Check that a preprocessed case was resampled to the spacing of the plans, as nnU-Net's own preprocessor does it.

    Parameters
    ----------
    shape : sequence of int
        Voxels of the preprocessed case along each axis.
    properties : mapping
        Those that nnU-Net stores with the case.
    transpose : sequence of int
        ``transpose_forward`` of the plans.
    spacing : sequence of float
        Of the configuration; of the plane only, if it is one of 2D.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    original = [properties["spacing"][axis] for axis in transpose]
    target = [*original[: len(original) - len(spacing)], *spacing]
    expected = compute_new_shape(properties["shape_after_cropping_and_before_resampling"], original, target)
    if list(expected) != list(shape):
        raise InputError(
            f"The plans want a spacing of {list(spacing)} mm, to which the preprocessed data were not resampled; "
            f"restore the plans, or {PLAN_ANEW}."
        )
