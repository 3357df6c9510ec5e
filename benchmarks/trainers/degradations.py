"""What can be wrong with one sequence: noise, a bias field, motion ghosts, a shift, or another patient's scan.

Each takes a scan (*spatial), a severity from 0 (nothing) to 1, and a generator; the last two axes are the plane.
Lengths are in voxels of the planned spacing, so that a patch in training and a whole scan suffer alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

NODE_DISTANCE = 21
"""Between the nodes of a bias field."""
GHOST_DISTANCE = (10, 29)
"""The least and the most that a ghost is displaced by."""
REACH = 10
"""Of a shift at full severity."""


def noise(scan: Tensor, severity: float, generator: Generator) -> Tensor:
    """Add Gaussian noise of up to two standard deviations of the scan."""
    return scan + 2 * severity * scan.std() * torch.randn(scan.shape, generator=generator)


def bias_field(scan: Tensor, severity: float, generator: Generator) -> Tensor:
    """Multiply intensities above the lowest by a smooth field between 1/8 and 8 at full severity."""
    counts = [max(2, round(edge / NODE_DISTANCE) + 1) for edge in scan.shape[-2:]]
    nodes = 2 * torch.rand((1, 1, *counts), generator=generator) - 1
    field = F.interpolate(nodes, size=scan.shape[-2:], mode="bicubic", align_corners=True)[0, 0].clamp(-1, 1)
    lowest = scan.min()
    return lowest + (scan - lowest) * 8 ** (severity * field)


def ghosts(scan: Tensor, severity: float, generator: Generator) -> Tensor:
    """Add two ghosts, displaced along one axis of the plane, of up to the scan's own intensity."""
    axis = -1 - int(torch.randint(2, (), generator=generator))
    offset = int(torch.randint(GHOST_DISTANCE[0], GHOST_DISTANCE[1], (), generator=generator))
    return scan + severity * (scan.roll(offset, axis) + scan.roll(-offset, axis) - 2 * scan.mean())


def shift(scan: Tensor, severity: float, generator: Generator) -> Tensor:
    """Move the scan in the plane by up to `REACH` voxels, in a random direction."""
    angle = 2 * torch.pi * torch.rand((), generator=generator)
    steps = (severity * REACH * torch.stack((angle.sin(), angle.cos()))).round().int()
    return scan.roll(steps.tolist(), (-2, -1))


KINDS: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "noise": noise,
    "bias field": bias_field,
    "ghosts": ghosts,
    "shift": shift,
}
OTHER_PATIENT = "other patient"
"""The sequence of another case in the place of this one's; it knows no severity."""


def degrade_batch(data: Tensor, share: float, generator: Generator) -> Tensor:
    """Degrade one random sequence of a share of the samples of (B, channels, *spatial), all kinds equally often.

    Absent sequences stay absent. Another patient is the next sample of the batch.
    """
    degraded, kinds = data.clone(), [*KINDS, OTHER_PATIENT]
    for index, sample in enumerate(data):
        present = sample.flatten(1).any(1).nonzero().flatten().tolist()
        if torch.rand((), generator=generator) >= share or not present:
            continue
        channel = present[int(torch.randint(len(present), (), generator=generator))]
        kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
        severity = float(torch.rand((), generator=generator))
        other = data[(index + 1) % len(data), channel]
        if kind != OTHER_PATIENT:
            degraded[index, channel] = KINDS[kind](sample[channel], severity, generator)
        elif other.any():
            degraded[index, channel] = other
    return degraded
