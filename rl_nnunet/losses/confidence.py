"""The probability that a segmentation gives to the true label: p_t in the reward of the weight agents.

Zhang et al. (see `rl_nnunet.networks.intra_inter_net`), section 2.3, define p as the softmax probability of the true
class of a volume. A segmentation has one such probability per voxel. We average it over the voxels of each class and
then over the classes that occur: in a plain average over voxels, the background, which is nearly all of a patch and
certain from early on, would hide what happens to a small structure.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
