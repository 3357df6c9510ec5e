"""Which channels of a raw image, and which branches of a preprocessed case, are absent.

**Raw image.** A channel that has one value in the whole case shows nothing and is taken for absent, whatever the value:
not everybody fills the place of an absent scan with zeros (`constant_value`).

**Preprocessed case.** An image of one value stays constant through nnU-Net's preprocessing. A branch is absent where
each of its channels is constant (`branches_of_case`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import blosc2

    from rl_nnunet.branches import BranchLayout

CONSTANT_TOLERANCE = 1e-4
"""Resampling leaves a constant channel constant to about 1e-7; real normalized channels vary by much more."""
PROBE_EDGE = 32
"""Edge in voxels of the central block by which a case's branches are told; no real image is constant there."""


def constant_value(channel: np.ndarray) -> float | None:
    """Return the value that a raw channel has everywhere, which makes it absent; None where it varies."""
    return float(channel.flat[0]) if channel.min() == channel.max() else None


def branches_with(layout: BranchLayout, channels: Collection[int]) -> tuple[str, ...]:
    """Return the names of the branches that have one of some channels."""
    return tuple(branch.name for branch in layout.branches if not set(branch.channels).isdisjoint(channels))


def branches_of_case(data: np.ndarray | blosc2.NDArray, layout: BranchLayout) -> tuple[str, ...]:
    """Return the names of the branches that a preprocessed case (channels, *spatial) has.

    A branch is absent where each of its channels is constant within the central block: an all-zero image stays
    constant through nnU-Net's preprocessing (to about 1e-7).
    """
    center = [slice(max(0, s // 2 - PROBE_EDGE // 2), s // 2 + PROBE_EDGE // 2 + 1) for s in data.shape[1:]]
    probe = np.asarray(data[(slice(None), *center)])
    return branches_with(layout, [c for c, channel in enumerate(probe) if np.ptp(channel) > CONSTANT_TOLERANCE])
