"""Stems, encoders and decoders of all our networks, built from what nnU-Net's plans say of a U-Net.

The blocks are those of ``dynamic_network_architectures``, with the same meaning of every argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import nn
from torch.nn.modules.conv import _ConvNd

from rl_nnunet.networks.swin_encoder import SwinEncoder

ENCODERS = ("n_blocks_per_stage", "n_conv_per_stage", "swin_blocks_per_stage")
"""The fields of `Backbone` of which one decides on the kind of encoder."""


@dataclass(frozen=True)
class Backbone:
    """Topology and blocks of a U-Net, as a JSON plan carries them.

    Parameters
    ----------
    n_stages, features_per_stage, conv_op, kernel_sizes, strides, n_conv_per_stage_decoder
        As in nnU-Net's ``ResidualEncoderUNet``; a classifier has no decoder, and none of the last.
    n_blocks_per_stage : sequence of int
        Residual blocks of each stage: nnU-Net's residual encoder.
    n_conv_per_stage : sequence of int
        Convolutions of each stage: the encoder of nnU-Net's ``PlainConvUNet``.
    swin_blocks_per_stage, swin_windows, swin_head_channels
        ``blocks_per_stage``, ``windows`` and ``head_channels`` of `SwinEncoder`.
    conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs
        Of all blocks.

    Raises
    ------
    ValueError
        If not exactly one kind of encoder is given.
    """

    n_stages: int
    features_per_stage: Sequence[int]
    conv_op: type[_ConvNd]
    kernel_sizes: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]
    n_conv_per_stage_decoder: Sequence[int] = ()
    n_blocks_per_stage: Sequence[int] | None = None
    n_conv_per_stage: Sequence[int] | None = None
    swin_blocks_per_stage: Sequence[int] | None = None
    swin_windows: Sequence[Sequence[int]] | None = None
    swin_head_channels: int = 32
    conv_bias: bool = False
    norm_op: type[nn.Module] | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: type[nn.Module] | None = None
    nonlin_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check that there is one encoder."""
        if sum(getattr(self, name) is not None for name in ENCODERS) != 1:
            raise ValueError(f"give exactly one of {', '.join(ENCODERS[:-1])} and {ENCODERS[-1]}")

    @property
    def dimension(self) -> int:
        """Spatial axes, 2 or 3."""
        return convert_conv_op_to_dim(self.conv_op)

    @property
    def block_options(self) -> dict[str, Any]:
        """What all blocks of ``dynamic_network_architectures`` take."""
        names = (
            "conv_op", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
            "nonlin_kwargs",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def build_stem(self, input_channels: int) -> StackedConvBlocks:
        """Return the block from input channels to the features of the first stage, at full resolution."""
        return StackedConvBlocks(
            num_convs=1, input_channels=input_channels, output_channels=self.features_per_stage[0],
            kernel_size=self.kernel_sizes[0], initial_stride=1, **self.block_options,
        )  # fmt: skip

    def build_encoder(self) -> ResidualEncoder | PlainConvEncoder | SwinEncoder:
        """Return an encoder behind a stem, which returns the features of all stages."""
        topology = {
            "input_channels": self.features_per_stage[0], "n_stages": self.n_stages,
            "features_per_stage": self.features_per_stage, "kernel_sizes": self.kernel_sizes, "strides": self.strides,
            **self.block_options,
        }  # fmt: skip
        if self.swin_blocks_per_stage is not None:
            return SwinEncoder(
                blocks_per_stage=self.swin_blocks_per_stage, windows=self.swin_windows or (),
                head_channels=self.swin_head_channels, **topology,
            )  # fmt: skip
        if self.n_blocks_per_stage is not None:
            return ResidualEncoder(
                n_blocks_per_stage=self.n_blocks_per_stage, disable_default_stem=True, return_skips=True, **topology
            )
        return PlainConvEncoder(n_conv_per_stage=self.n_conv_per_stage, return_skips=True, **topology)

    def build_decoder(self, num_classes: int, deep_supervision: bool) -> UNetDecoder:
        """Return nnU-Net's decoder of maps that have the features of all stages."""
        # It takes an encoder, but only what describes it.
        described = SimpleNamespace(
            output_channels=self.features_per_stage, strides=self.strides, kernel_sizes=self.kernel_sizes,
            **self.block_options,
        )  # fmt: skip
        return UNetDecoder(described, num_classes, self.n_conv_per_stage_decoder, deep_supervision)


def initialize_as_nnunet(module: nn.Module) -> None:
    """Initialize a module as nnU-Net's networks do, which apply this to every module of theirs."""
    InitWeights_He(1e-2)(module)
    init_last_bn_before_add_to_0(module)
