"""``--spacing``: voxel sizes in the place of those in headers that are wrong.

A wrong header is not harmless: nnU-Net resamples by it, so that one organ has two sizes in two branches, and what the
branches share (an encoder, a fold's target spacing) has to fit both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.headers.geometry import LARGEST_SPACING, SMALLEST_SPACING

KEEP = "keep"
Spacing = tuple[float | None, float | None, float | None]
"""In mm along the axes of a file, x first; None keeps what the header states."""


def spacings_per_branch(entries: Sequence[str], branches: Collection[str]) -> dict[str, Spacing]:
    """Return the spacing of every branch that has an entry ``BRANCH=X,Y,Z``.

    Raises
    ------
    InputError
        If an entry is malformed, its branch unknown or named twice, or a voxel no scan's.
    """
    spacings: dict[str, Spacing] = {}
    for entry in entries:
        branch, _, edges = entry.partition("=")
        if branch not in branches:
            raise InputError(f"--spacing {entry}: there is no branch {branch}; use a name from --branch.")
        if branch in spacings:
            raise InputError(f"--spacing: {branch} is given twice; give its three edges once.")
        spacings[branch] = _edges(entry, edges)
    return spacings


def _edges(entry: str, text: str) -> Spacing:
    edges = []
    for part in text.split(","):
        try:
            edges.append(None if part == KEEP else float(part))
        except ValueError:
            edges.append(math.nan)
    if len(edges) != 3 or not all(edge is None or SMALLEST_SPACING <= edge <= LARGEST_SPACING for edge in edges):
        raise InputError(
            f"--spacing {entry}: write BRANCH=X,Y,Z with the edges of a voxel in mm, {SMALLEST_SPACING:g} to "
            f"{LARGEST_SPACING:g}, or {KEEP} for what the header states."
        )
    return edges[0], edges[1], edges[2]


def correct_spacing(volume: sitk.Image, spacing: Spacing) -> str:
    """Set the spacing of a volume, whose first voxel stays in its place; return what changed, or "" if nothing did."""
    stated = volume.GetSpacing()
    corrected = [old if edge is None else edge for old, edge in zip(stated, spacing, strict=True)]
    if corrected == list(stated):
        return ""
    volume.SetSpacing(corrected)
    return f"{_text(stated)} mm of the header corrected to {_text(corrected)} mm"


def _text(spacing: Sequence[float]) -> str:
    return "x".join(f"{edge:.4g}" for edge in spacing)
