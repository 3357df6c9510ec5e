"""What the mask agent has to beat: no mask, cutout, and Grad-CAM of the task network, in the form of mask sources.

They are the baselines of Cheng et al. (APGA), section 3. All train in as many steps, so that only the masks differ.
"""

from __future__ import annotations

from typing import Any

import torch
from batchgeneratorsv2.transforms.noise.blank_rectangle import BlankRectangleTransform
from torch import Tensor, nn
from torch.nn import functional as F

from rl_nnunet.agents.masks import MaskSource, SampleLosses

GRAD_CAM_THRESHOLD = 0.5
"""Of the map divided by its maximum; the paper discretizes without saying where, the authors' script at 0.5."""


class KeepAll(MaskSource):
    """No mask: the second step is on the original images again.

    Parameters
    ----------
    groups : int
        Groups of channels that have a mask of their own.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def keep(self, batch: dict[str, Any]) -> Tensor:
        """Return that everything is kept."""
        data = batch["data"]
        return data.new_ones((len(data), self.groups, *data.shape[2:]), dtype=torch.bool)


class Cutout(MaskSource):
    """A rectangle per image and group, of a uniformly drawn size and place, is erased (DeVries and Taylor).

    Parameters
    ----------
    groups : int
        Groups of channels that have a mask of their own.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def keep(self, batch: dict[str, Any]) -> Tensor:
        """Return all but the rectangles; an edge has from one voxel to all of its axis."""
        data = batch["data"]
        spatial = tuple(data.shape[2:])
        transform = BlankRectangleTransform(
            rectangle_size=tuple((1, size + 1) for size in spatial), rectangle_value=0.0, num_rectangles=1
        )
        masks = [transform(image=torch.ones((self.groups, *spatial)))["image"] for _ in data]
        return torch.stack(masks).to(data.device) > 0


class GradCAM(MaskSource):
    """What the task network attends to is kept (Selvaraju et al., Grad-CAM).

    The map is ``ReLU(sum_f w_f A_f)`` with the feature maps A_f of a module and w_f the mean over the map of the
    gradient of the score with respect to A_f. The score is minus the loss of the sample, which a classifier and a
    segmentation both have: of a classifier, it is the log-probability of the true class. The map is resized to the
    image and kept where it exceeds half of its maximum.

    Parameters
    ----------
    losses : callable
        Returns the losses of the task network in evaluation mode, (B, 1), with gradient.
    module : nn.Module
        Part of the task network that returns A, (B, features, *spatial).
    """

    def __init__(self, losses: SampleLosses, module: nn.Module) -> None:
        self.losses = losses
        self.module = module

    def keep(self, batch: dict[str, Any]) -> Tensor:
        """Return where the map exceeds half of its maximum; nothing where it is 0, because nothing helps."""
        maps: list[Tensor] = []
        hook = self.module.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        try:
            with torch.enable_grad():
                score = -self.losses(batch).sum()
                (gradient,) = torch.autograd.grad(score, maps[0])
        finally:
            hook.remove()
        spatial = batch["data"].shape[2:]
        axes = tuple(range(2, 2 + len(spatial)))
        attention = F.relu((gradient.mean(axes, keepdim=True) * maps[0].detach()).sum(1, keepdim=True)).float()
        attention = F.interpolate(attention, spatial, mode="trilinear" if len(spatial) == 3 else "bilinear")
        return attention > GRAD_CAM_THRESHOLD * attention.amax(axes, keepdim=True)
