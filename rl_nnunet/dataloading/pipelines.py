"""Change a part of nnU-Net's augmentation, wherever in its pipeline it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform


def replace_within(pipeline: Any, kind: type[BasicTransform], make: Callable[[Any], BasicTransform]) -> None:
    """Replace every transform of a kind that a pipeline holds, in place.

    Parameters
    ----------
    pipeline : BasicTransform or None
        A wrapper (``transform``) or a sequence (``transforms``) of nnU-Net's; anything else holds nothing.
    kind : type
        What is replaced.
    make : callable
        Returns what takes the place of a transform.
    """
    inner = getattr(pipeline, "transforms", [])
    for position, each in enumerate(inner):
        inner[position] = _replaced(each, kind, make)
    if hasattr(pipeline, "transform"):
        pipeline.transform = _replaced(pipeline.transform, kind, make)


def _replaced(transform: Any, kind: type[BasicTransform], make: Callable[[Any], BasicTransform]) -> Any:
    if isinstance(transform, kind):
        return make(transform)
    replace_within(transform, kind, make)
    return transform
