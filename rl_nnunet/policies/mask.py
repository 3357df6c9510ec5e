"""The mask policy: a small U-Net that gives every cell of a patch the probability of being important.

Cheng et al., "Adversarial Policy Gradient for Deep Learning Image Augmentation" (APGA), section 2.1 and 2.2: a
segmentation network with parameters theta_p is the policy, the image is the state, and what is erased is the action;
p = P(a | s), the sigmoid of a logit, is the importance of a pixel.

The paper's action is a threshold, p > 0.5, of every pixel. Ours is drawn: the patch is divided into coarse *cells*, and
each cell is erased with probability p, independently of the others. A threshold never tries anything, so that its
reward says nothing of what it does not do already; and a single voxel changes the loss by less than the noise of it.
With cells of a voxel and `thresholded`, this is the paper's policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.building_blocks.helper import convert_dim_to_conv_op
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn import functional as F

STEM_FEATURES = 8
STAGE_FEATURES = (16, 32, 64)
"""Of the stages of the U-Net, which sees cells, not voxels."""
AVERAGE_POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}


def cell_edges(patch_size: Sequence[int], spacing: Sequence[float], cells: int | None) -> tuple[int, ...]:
    """Return the edge of a cell in voxels along each axis.

    Parameters
    ----------
    patch_size : sequence of int
        Voxels of a patch along each axis.
    spacing : sequence of float
        Distance of the voxels along each axis in mm.
    cells : int or None
        How many cells the patch's longest axis (in mm) is divided into; cells have that length along the other axes,
        too, as far as their voxels allow. None makes every voxel a cell.
    """
    if cells is None:
        return (1,) * len(patch_size)
    length = max(size * distance for size, distance in zip(patch_size, spacing, strict=True)) / cells
    return tuple(
        min(size, max(1, round(length / distance))) for size, distance in zip(patch_size, spacing, strict=True)
    )


class MaskPolicy(nn.Module):
    """Independent Bernoulli actions, one per cell: erased or not.

    There is no normalization within: it would hide from the policy how bright a cell is.

    Parameters
    ----------
    input_channels : int
        Channels of an image.
    patch_size : sequence of int
        Voxels of a patch along each axis, two or three.
    edges : sequence of int
        Edge of a cell in voxels along each axis (`cell_edges`); the last cell of an axis may be smaller.
    """

    def __init__(self, input_channels: int, patch_size: Sequence[int], edges: Sequence[int]) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.edges = tuple(edges)
        self.grid = tuple(math.ceil(size / edge) for size, edge in zip(patch_size, edges, strict=True))
        stages = len(STAGE_FEATURES)
        halvings = [min(stages - 1, int(math.log2(cells))) for cells in self.grid]
        self._padded = [math.ceil(cells / 2**h) * 2**h for cells, h in zip(self.grid, halvings, strict=True)]
        blocks = {"conv_op": convert_dim_to_conv_op(len(patch_size)), "conv_bias": True, "nonlin": nn.LeakyReLU}
        self.stem = StackedConvBlocks(
            num_convs=2, input_channels=input_channels, output_channels=STEM_FEATURES, kernel_size=3, initial_stride=1,
            **blocks,
        )  # fmt: skip
        self.unet = PlainConvUNet(
            STEM_FEATURES, stages, STAGE_FEATURES, kernel_sizes=3, n_conv_per_stage=1, n_conv_per_stage_decoder=1,
            strides=[[2 if 1 <= stage <= h else 1 for h in halvings] for stage in range(stages)],
            num_classes=1, **blocks,
        )  # fmt: skip
        self.apply(InitWeights_He(1e-2))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logit of the importance of every cell, (V, *grid), of images (V, channels, *patch_size)."""
        maps = self.stem(images)
        cells = AVERAGE_POOLS[len(self.edges)](maps, self.edges, ceil_mode=True)
        padding = [
            amount
            for padded, there in zip(reversed(self._padded), reversed(self.grid), strict=True)
            for amount in (0, padded - there)
        ]
        logits = self.unet(F.pad(cells, padding))[:, 0]
        return logits[(slice(None), *map(slice, self.grid))]

    def to_voxels(self, cells: Tensor) -> Tensor:
        """Return the value of each voxel's cell, (V, *patch_size), of values (V, *grid)."""
        for axis, (edge, size) in enumerate(zip(self.edges, self.patch_size, strict=True), start=1):
            cells = cells.repeat_interleave(edge, dim=axis).narrow(axis, 0, size)
        return cells


def draw(logits: Tensor) -> Tensor:
    """Draw which cells are erased, booleans of the shape of the logits."""
    return torch.rand_like(logits) < torch.sigmoid(logits)


def thresholded(logits: Tensor) -> Tensor:
    """Return the paper's action: the cells with p > 0.5 are erased."""
    return logits > 0


def binary_cross_entropy(logits: Tensor, actions: Tensor) -> Tensor:
    """Return L_BCE of eq. 4 and 5 of every cell, in nats: minus the log-probability of its action.

    Parameters
    ----------
    logits : Tensor
        Any shape.
    actions : Tensor
        1 (or True) where a cell is erased, of the same shape.
    """
    return F.binary_cross_entropy_with_logits(logits, actions.to(logits.dtype), reduction="none")


def log_probability(logits: Tensor, actions: Tensor) -> Tensor:
    """Return the log-probability of the actions on all cells of an image together, in nats: (V,) of (V, *grid)."""
    return -binary_cross_entropy(logits, actions).flatten(1).sum(1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the actions on all cells of an image together, in nats: (V,) of (V, *grid)."""
    return binary_cross_entropy(logits, torch.sigmoid(logits)).flatten(1).sum(1)
