"""The paper's Swin transformer as an encoder with nnU-Net's topology.

RL-U2Net's encoder is a Swin transformer. Here its stages, strides and features are those of nnU-Net's plans, so that
it takes the place of ``dynamic_network_architectures``' encoders: the first stage keeps the full resolution and is
convolutional (as in SwinUNETR, whose finest skip is), every further stage merges patches with a convolution whose
kernel is its stride, and attends within windows and shifted windows in turn. The blocks are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformerBlock
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

ATTENTION = {2: ShiftedWindowAttention, 3: ShiftedWindowAttention3d}
MLP_RATIO = 4


class SwinStage(nn.Module):
    """Patch merging and Swin blocks, whose windows are shifted by half in every second block.

    Parameters
    ----------
    input_channels, channels : int
        Channels before and after patch merging.
    stride : sequence of int
        Stride and kernel of patch merging.
    n_blocks : int
        Swin blocks.
    window : sequence of int
        Attention window in voxels.
    head_channels : int
        Channels per attention head; reduced to a divisor of `channels` where it is none.
    block_options : dict
        ``conv_op``, ``conv_bias``, ``norm_op``, ``norm_op_kwargs``, ``dropout_op`` and ``dropout_op_kwargs`` of
        patch merging, which has no nonlinearity.
    """

    def __init__(
        self,
        input_channels: int,
        channels: int,
        stride: Sequence[int],
        n_blocks: int,
        window: Sequence[int],
        head_channels: int,
        block_options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.window = [int(w) for w in window]
        self.heads = channels // math.gcd(channels, head_channels)
        self.merging = ConvDropoutNormReLU(
            input_channels=input_channels, output_channels=channels, kernel_size=stride, stride=stride,
            **{**block_options, "nonlin": None, "nonlin_kwargs": None},
        )  # fmt: skip
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    channels, self.heads, self.window, [w // 2 if block % 2 else 0 for w in self.window], MLP_RATIO,
                    attn_layer=ATTENTION[len(self.window)],
                )
                for block in range(n_blocks)
            )
        )  # fmt: skip
        self.norm = nn.LayerNorm(channels)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):  # as torchvision's SwinTransformer does
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to the features of this stage, likewise with the channels in front."""
        tokens = self.merging(x).movedim(1, -1)
        return self.norm(self.blocks(tokens)).movedim(-1, 1).contiguous()

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Count what the convolution and every linear layer put out, and the attention of each voxel in its window."""
        merged = self.merging.compute_conv_feature_map_size(input_size)
        linear_outputs = 3 + 1 + MLP_RATIO + 1  # query, key and value; projection; the two layers of the perceptron
        attention_per_channel = self.heads * math.prod(self.window) / self.merging.output_channels
        return merged + np.int64(len(self.blocks) * (linear_outputs + attention_per_channel) * merged)


class SwinEncoder(nn.Module):
    """Swin transformer with the interface of ``ResidualEncoder``: returns the skips, and tells the decoder its options.

    Parameters
    ----------
    input_channels, n_stages, features_per_stage, conv_op, kernel_sizes, strides
        As in ``dynamic_network_architectures``' encoders. The kernels are those of the first stage and, as there, of
        the decoder.
    blocks_per_stage : sequence of int
        Convolutions of the first stage, Swin blocks of the others.
    windows : sequence of sequence of int
        Attention window of each stage but the first, in voxels. Maps that a window does not divide are padded.
    head_channels : int
        Channels per attention head; reduced where they do not divide those of a stage.
    conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs
        Of the convolutions, as in ``dynamic_network_architectures``.

    Raises
    ------
    ValueError
        If features, kernels, strides, blocks and windows are not as many as the stages, the network is not 2D or 3D,
        or a stage would have no block.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[_ConvNd],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        blocks_per_stage: Sequence[int],
        windows: Sequence[Sequence[int]],
        head_channels: int = 32,
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        counts = [len(i) for i in (features_per_stage, kernel_sizes, strides, blocks_per_stage)]
        if any(count != n_stages for count in counts) or len(windows) != n_stages - 1:
            raise ValueError(
                f"{n_stages} stages need as many features, kernels, strides and blocks, and {n_stages - 1} windows; "
                f"not {', '.join(map(str, counts))} and {len(windows)}"
            )
        if min(blocks_per_stage) < 1:
            raise ValueError(f"every stage needs a block, not {list(blocks_per_stage)}")
        if convert_conv_op_to_dim(conv_op) not in ATTENTION:
            raise ValueError("the Swin encoder is for 2D and 3D networks")
        self.strides = [maybe_convert_scalar_to_list(conv_op, stride) for stride in strides]
        block_options = {
            "conv_op": conv_op, "conv_bias": conv_bias, "norm_op": norm_op, "norm_op_kwargs": norm_op_kwargs,
            "dropout_op": dropout_op, "dropout_op_kwargs": dropout_op_kwargs, "nonlin": nonlin,
            "nonlin_kwargs": nonlin_kwargs,
        }  # fmt: skip
        first = StackedConvBlocks(
            num_convs=blocks_per_stage[0], input_channels=input_channels, output_channels=features_per_stage[0],
            kernel_size=kernel_sizes[0], initial_stride=strides[0], **block_options,
        )  # fmt: skip
        others = (
            SwinStage(features_per_stage[i - 1], features_per_stage[i], self.strides[i], blocks_per_stage[i],
                      windows[i - 1], head_channels, block_options)
            for i in range(1, n_stages)
        )  # fmt: skip
        self.stages = nn.ModuleList([first, *others])
        # What a decoder asks of an encoder.
        self.output_channels = list(features_per_stage)
        self.kernel_sizes = kernel_sizes
        self.conv_op = conv_op
        self.conv_bias = conv_bias
        self.norm_op = norm_op
        self.norm_op_kwargs = norm_op_kwargs
        self.dropout_op = dropout_op
        self.dropout_op_kwargs = dropout_op_kwargs
        self.nonlin = nonlin
        self.nonlin_kwargs = nonlin_kwargs

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every stage, finest first, each (B, C, *spatial)."""
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample; nnU-Net plans memory with it."""
        output, size = np.int64(0), list(input_size)
        for stage, stride in zip(self.stages, self.strides, strict=True):
            output += stage.compute_conv_feature_map_size(size)
            size = [extent // s for extent, s in zip(size, stride, strict=True)]
        return output
