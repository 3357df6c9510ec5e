"""Grids that no scanner makes: a header is damaged, or in other units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rl_nnunet.errors import InputError

# Voxel edges in mm: micro-CT comes down to a thousandth, the slices of surveys lie up to 50 apart.
SMALLEST_SPACING, LARGEST_SPACING = 0.001, 100.0
# In mm: a whole body on its table, and the farthest that a coordinate system of a scanner's room lies off.
LARGEST_EXTENT, LARGEST_ORIGIN = 3000.0, 10_000.0
# Of the cosines between axes, which headers in text round to few digits.
AXES_TOLERANCE = 0.01


def check_geometry(
    path: Path, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> None:
    """Check where a header says that an image lies.

    Parameters
    ----------
    path : Path
        The scan.
    size, spacing, origin, direction : sequence
        As SimpleITK has them, x first.

    Raises
    ------
    InputError
        If no scanner makes such a grid.
    """
    if not (np.isfinite(origin).all() and np.isfinite(direction).all()):
        raise InputError(f"{path} has a position of numbers that are not finite; mend its header.")
    axes = np.reshape(direction, (len(size), -1))
    if not np.allclose(axes.T @ axes, np.eye(len(size)), atol=AXES_TOLERANCE):
        raise InputError(not_at_right_angles(path))
    edges = np.array(spacing)
    # Nothing lies next to a single slice: nnU-Net gives it an edge of 999.
    largest = np.where(np.array(size) > 1, LARGEST_SPACING, LARGEST_EXTENT)
    if not ((edges >= SMALLEST_SPACING).all() and (edges <= largest).all()):
        raise InputError(
            f"{path} has voxels of {'x'.join(f'{edge:.4g}' for edge in edges)} mm, where those of scans "
            f"measure {SMALLEST_SPACING:g} to {LARGEST_SPACING:g} mm; mend its header."
        )
    extent = edges * size
    if extent.max() > LARGEST_EXTENT or np.abs(origin).max() > LARGEST_ORIGIN:
        raise InputError(
            f"{path} covers {'x'.join(f'{edge:.4g}' for edge in extent)} mm from the position "
            f"({', '.join(f'{position:.4g}' for position in origin)}) mm on, farther than a scanner reaches; mend its "
            "header."
        )


def not_at_right_angles(path: Path) -> str:
    """Return the sentence on axes that are not."""
    return f"{path} has axes that are not at right angles; resample it, or mend its header."
