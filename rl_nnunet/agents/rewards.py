"""What rewards an agent: the overlap of label maps after a rotation, and the probability of the true label.

- **S of RL-U2Net, eq. 8 and 9.** The paper calls it the cross-modal feature similarity. Where both label maps exist, as
  in training, their overlap after the rotation says the same of the anatomy, without the modalities' noise
  (`anatomical_similarities`). Two crops around one structure do not show it in the same place, and a rotation cannot
  shift: label maps are centered on their foreground first, or the rotation that happens to cover the offset wins.
- **p_t of the weight agents** (Zhu et al., see `rl_nnunet.networks.intra_inter_net`, section 2.3): the softmax
  probability of the true class of a volume. A segmentation has one such probability per voxel. We average it over the
  voxels of each class and then over the classes that occur: in a plain average over voxels, the background, which is
  nearly all of a patch and certain from early on, would hide what happens to a small structure.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rl_nnunet.losses.alignment import check_maps
from rl_nnunet.policies.pose import average_to_cube
from rl_nnunet.policies.rotations import rotate_all

LABEL_EDGE = 32
"""Label maps are sampled to at most this edge in voxels before they are averaged to a cube; a whole patch of one-hot
labels would cost more than the network."""
LABEL_GRID = 16
"""Edge in voxels of the cube on which label maps are turned and compared."""


def sample_labels(labels: Tensor) -> Tensor:
    """Return label maps (samples, channels, *spatial) at every n-th voxel, at most `LABEL_EDGE` along an axis."""
    for axis in range(2, labels.ndim):
        extent = labels.shape[axis]
        if extent > LABEL_EDGE:
            positions = (torch.arange(LABEL_EDGE, device=labels.device) + 0.5) * extent / LABEL_EDGE
            labels = labels.index_select(axis, positions.long())
    return labels


def center_on_foreground(maps: Tensor) -> Tensor:
    """Shift each sample's maps so that the center of their mass lies in the middle; by fractions of a voxel, linearly.

    Parameters
    ----------
    maps : Tensor
        (samples, classes, *spatial), not negative. All classes of a sample are shifted alike.

    Returns
    -------
    Tensor
        Same shape; what comes in from outside is 0. Samples without any foreground stay as they are.
    """
    mass, shape = maps.sum(1), maps.shape[2:]
    total = mass.flatten(1).sum(1).clamp(min=1e-6)
    centers = []
    for axis, extent in enumerate(shape):
        # -1 and 1 are the ends of the axis, as affine_grid has it.
        positions = (torch.arange(extent, device=maps.device) + 0.5) * (2 / extent) - 1
        others = [1 + other for other in range(len(shape)) if other != axis]
        centers.append((mass.sum(others) * positions).sum(1) / total)
    shift = torch.stack(centers[::-1], dim=1).unsqueeze(2)  # torch counts the axes from the last one
    identity = torch.eye(len(shape), device=maps.device).expand(len(maps), -1, -1)
    grid = F.affine_grid(torch.cat((identity, shift), dim=2), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, align_corners=False)


def label_cube(labels: Tensor, num_classes: int | None) -> Tensor:
    """Return foreground label maps, centered on their foreground and averaged to a cube.

    Parameters
    ----------
    labels : Tensor
        (samples, 1, *spatial) integer labels, or (samples, regions, *spatial) of regions where `num_classes` is None.
    num_classes : int or None
        Foreground classes of an integer label map, counted from 1; labels above (the ignore label) count as none.

    Returns
    -------
    Tensor
        (samples, classes or regions, 16, ...) in [0, 1].
    """
    sampled = sample_labels(labels)
    if num_classes is not None:
        sampled = torch.cat([sampled == label for label in range(1, num_classes + 1)], dim=1)
    return average_to_cube(center_on_foreground(sampled.float()), LABEL_GRID)


def anatomical_similarities(main: Tensor, auxiliary: Tensor) -> Tensor:
    """Return the overlap of label cubes after every rotation of the auxiliary one, (L, R) in [0, 1]."""
    rotated = rotate_all(auxiliary, main.ndim - 2)
    overlap = label_overlap(main.repeat(len(rotated), *[1] * (main.ndim - 1)), rotated.flatten(0, 1))
    return overlap.view(len(rotated), len(main)).T


def label_overlap(main_labels: Tensor, auxiliary_labels: Tensor) -> Tensor:
    """Return the soft Dice coefficient of two label maps, averaged over the classes that occur.

    Parameters
    ----------
    main_labels, auxiliary_labels : Tensor
        Shape (L, K, *spatial), one channel per foreground class with values in [0, 1]: one-hot, or soft after
        resampling.

    Returns
    -------
    Tensor
        Shape (L,), float32, in [0, 1]: the mean of ``2 sum(a b) / (sum(a) + sum(b))`` over those of the K classes
        that occur in either map of the pair; 0 where none does, since nothing is then known to overlap.

    Raises
    ------
    ValueError
        If the shapes differ or have fewer than three axes.
    """
    check_maps(main_labels, auxiliary_labels)
    main, auxiliary = main_labels.float().flatten(2), auxiliary_labels.float().flatten(2)
    size = main.sum(dim=2) + auxiliary.sum(dim=2)
    occurs = size > 0
    dice = 2 * (main * auxiliary).sum(dim=2) / size.where(occurs, 1)
    return dice.sum(dim=1) / occurs.sum(dim=1).clamp(min=1)


@torch.no_grad()
def true_label_probability(
    logits: Tensor, target: Tensor, *, regions: bool = False, ignore_label: int | None = None
) -> Tensor:
    """Return the mean probability of the true label per sample.

    Parameters
    ----------
    logits : Tensor
        (B, classes, *spatial); with `regions`, one logit per region.
    target : Tensor
        (B, 1, *spatial), integer labels; with `regions` (B, regions, *spatial), 0 or 1, and behind the regions one more
        channel that marks ignored voxels if `ignore_label` is given.
    regions : bool
        Regions overlap and have a sigmoid each: inside and outside of every region are its two classes.
    ignore_label : int, optional
        Voxels with this label do not count.

    Returns
    -------
    Tensor
        (B,), float32, in [0, 1]; 0 where all voxels are ignored.
    """
    logits = logits.float()
    if regions:
        inside = torch.sigmoid(logits)
        probabilities = torch.cat((inside, 1 - inside), dim=1)
        counted = 1 - target[:, -1:].float() if ignore_label is not None else 1.0
        truth = target[:, : logits.shape[1]].float()
        members = torch.cat((truth, 1 - truth), dim=1) * counted
    else:
        probabilities = torch.softmax(logits, dim=1)
        classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, *[1] * (logits.ndim - 2))
        members = (target == classes).float()  # the ignore label is none of the classes
    members, probabilities = members.flatten(2), probabilities.flatten(2)
    size = members.sum(2)
    mean = (members * probabilities).sum(2) / size.clamp(min=1)
    occurs = size > 0
    return (mean * occurs).sum(1) / occurs.sum(1).clamp(min=1)
