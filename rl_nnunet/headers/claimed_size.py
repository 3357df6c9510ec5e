"""Whether a file can hold the voxels that its header promises, asked before anything is read or allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from rl_nnunet.errors import InputError

# Deflate, which gzip and zlib use, turns at most 258 bytes into two bits.
DEFLATE_RATIO = 1032
GIB = 1 << 30


def check_claimed_size(path: Path, shape: Sequence[int], claimed: int, available: int, ratio: int = 1) -> None:
    """Compare the bytes that a header claims with the file.

    Parameters
    ----------
    path : Path
        The scan.
    shape : sequence of int
        Its size in voxels, as the header states it.
    claimed, available : int
        Number of bytes up to the last voxel, by the header and in the file.
    ratio : int
        How many claimed bytes one byte in the file can stand for at most.

    Raises
    ------
    InputError
        If the file is too short.
    """
    if claimed > available * ratio:
        raise InputError(
            f"{path} is truncated: its header promises {format_shape(shape)} voxels, more than its {available} bytes "
            "can hold; fetch it again, or remove the case."
        )


def check_memory(path: Path, shape: Sequence[int], voxel_bytes: int) -> None:
    """Compare what an image would take in the memory with what the machine has.

    Parameters
    ----------
    path : Path
        The scan.
    shape : sequence of int
        Its size in voxels.
    voxel_bytes : int
        Bytes a voxel.

    Raises
    ------
    InputError
        If the machine has less. It would be ended by the system otherwise.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return
    needed = math.prod(shape) * voxel_bytes
    if needed > there:
        raise InputError(
            f"{path} would take {needed / GIB:.0f} GiB of memory with {format_shape(shape)} voxels, and this machine "
            f"has {there / GIB:.0f}; crop or resample it, or mend its header."
        )


def too_long(path: Path, shape: Sequence[int]) -> InputError:
    """Return the error for a file that goes on after its last voxel: its header is not that of its voxels."""
    return InputError(
        f"{path} is longer than the {format_shape(shape)} voxels that its header promises; fetch it again, or mend its "
        "header."
    )


def format_shape(shape: Sequence[int]) -> str:
    """Return a size as text, such as ``192x192x12``."""
    return "x".join(map(str, shape))
