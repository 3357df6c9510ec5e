"""What can be wrong with one modality: noise, a bias field, motion ghosts, a shift, or another patient's scan.

Each kind takes a scan (..., *spatial), of which leading axes are damaged alike, a severity from 0 (nothing) to 1 and
the spacing of the spatial axes in mm. Everything is drawn with torch's global generator. As in nnU-Net's patches, the
last two axes are the plane in which an image was taken.

Voxels of exactly 0 keep it where only intensities change: they are padding, or the outside of a head whose skull was
stripped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NOISE = 2.0
"""Standard deviation of the noise at full severity, in standard deviations of the scan."""
NODE_DISTANCE = 42.0
"""Between the nodes of a bias field, in mm."""
LARGEST_FACTOR = 8.0
"""Of a bias field at full severity, up or down."""
GHOST_DISTANCE = (20.0, 56.0)
"""The least and the most that a ghost is displaced by, in mm."""
REACH = 20.0
"""Of a shift at full severity, in mm."""
INTERPOLATION = {2: "bicubic", 3: "trilinear"}
"""Between the nodes of a bias field: the smoothest that torch has, by number of spatial axes."""


def noise(scan: Tensor, severity: float, spacing: Sequence[float]) -> Tensor:
    """Add Gaussian noise of up to `NOISE` standard deviations of the scan."""
    return _keep_zeros(scan, scan + severity * NOISE * scan.std() * torch.randn_like(scan))


def bias_field(scan: Tensor, severity: float, spacing: Sequence[float]) -> Tensor:
    """Multiply intensities above the lowest by a smooth field between 1/8 and 8 at full severity."""
    edges = scan.shape[-len(spacing) :]
    counts = [max(2, round(edge * mm / NODE_DISTANCE) + 1) for edge, mm in zip(edges, spacing, strict=True)]
    nodes = 2 * torch.rand((1, 1, *counts), device=scan.device) - 1
    field = F.interpolate(nodes, size=edges, mode=INTERPOLATION[len(spacing)], align_corners=True)[0, 0].clamp(-1, 1)
    lowest = scan.min()
    return _keep_zeros(scan, lowest + (scan - lowest) * LARGEST_FACTOR ** (severity * field))


def ghosts(scan: Tensor, severity: float, spacing: Sequence[float]) -> Tensor:
    """Add two ghosts of up to the scan's own intensity, displaced both ways along one axis of the plane, round it."""
    axis = -1 - int(torch.randint(2, ()))
    least, most = (max(1, round(distance / spacing[axis])) for distance in GHOST_DISTANCE)
    offset = int(torch.randint(least, most + 1, ()))
    return _keep_zeros(scan, scan + severity * (scan.roll(offset, axis) + scan.roll(-offset, axis) - 2 * scan.mean()))


def shift(scan: Tensor, severity: float, spacing: Sequence[float]) -> Tensor:
    """Move the scan by up to `REACH` in a random direction, to whole voxels; what it leaves is filled by reflection.

    It would come back on the other side if it were rolled, with an edge that no shifted scan has.
    """
    direction = torch.randn(len(spacing))
    steps = severity * REACH * direction / direction.norm() / torch.tensor(spacing)
    for axis, step in enumerate(steps.round().int().tolist(), start=scan.ndim - len(spacing)):
        edge = scan.shape[axis]
        period = max(2 * (edge - 1), 1)
        places = (torch.arange(edge, device=scan.device) - step) % period
        scan = scan.index_select(axis, torch.minimum(places, period - places))
    return scan


def _keep_zeros(scan: Tensor, damaged: Tensor) -> Tensor:
    return damaged.where(scan != 0, 0)


KINDS: dict[str, Callable[[Tensor, float, Sequence[float]], Tensor]] = {
    "noise": noise,
    "bias field": bias_field,
    "ghosts": ghosts,
    "shift": shift,
}
MISPLACING = ("shift",)
"""Kinds behind which a scan no longer fits the labels; another patient's scan fits them neither."""
OTHER_PATIENT = "other patient"
"""The modality of another case in the place of this one's; it knows no severity."""


def degrade_batch(data: Tensor, share: float, spacing: Sequence[float]) -> Tensor:
    """Degrade one random present modality of a share of the samples, all kinds equally often, at any severity.

    Absent modalities stay absent. A modality without others keeps its place: shifted, or another patient's, nothing of
    the sample would fit its labels. Another patient's scan is that of the next sample of the batch, if it is there;
    nnU-Net sometimes draws a case twice for a batch, whose scan is another patch then.

    Parameters
    ----------
    data : Tensor
        (B, channels, *spatial), a channel for each modality; it is not changed.
    share : float
        Of the samples, in [0, 1].
    spacing : sequence of float
        Of the spatial axes, in mm.
    """
    degraded = data.clone()
    for index, sample in enumerate(data):
        present = sample.flatten(1).any(1).nonzero().flatten().tolist()
        if torch.rand(()) >= share or not present:
            continue
        kinds = [*KINDS, OTHER_PATIENT] if len(present) > 1 else [kind for kind in KINDS if kind not in MISPLACING]
        channel = present[int(torch.randint(len(present), ()))]
        kind, severity = kinds[int(torch.randint(len(kinds), ()))], float(torch.rand(()))
        other = data[(index + 1) % len(data), channel]
        if kind != OTHER_PATIENT:
            degraded[index, channel] = KINDS[kind](sample[channel], severity, spacing)
        elif other.any():
            degraded[index, channel] = other
    return degraded
