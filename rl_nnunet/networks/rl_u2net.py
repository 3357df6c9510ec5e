"""RL-U2Net: one stem and one decoder per branch, one shared encoder, RL-XAlign between the branches.

After RL-U2Net (Qu and Zhao, arXiv 2508.02557), with nnU-Net's own encoders and decoders and its plans' topology::

    x - split by branch - stem_CT -+                               +- decoder_CT - logits_CT
                          stem_MR -+- shared encoder - XAlign per -+- decoder_MR - logits_MR
                                                       stage

A branch whose patch is blank is left out: no stem, encoder, alignment or decoder runs for it. Hence one network serves
one modality, the other, and both. The network is described by plain keyword arguments that a JSON plan can carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rl_nnunet.networks.presence import blank_channels, present_groups, rows_of, tell_present, withhold
from rl_nnunet.networks.swin_encoder import SwinEncoder
from rl_nnunet.networks.xalign import Alignment, Links, ResidualFusion, XAlign, XAlignConfig


class BranchOutput(NamedTuple):
    """What the network returns while it trains.

    Attributes
    ----------
    logits : list
        Per branch, the decoder's output for the samples that have the branch: a list over nnU-Net's deep-supervision
        scales (finest first) of (samples, classes, *spatial), or one such tensor without deep supervision, or None
        where no sample has the branch.
    samples : list of list of int
        Per branch, the indices of these samples in the batch.
    alignments : list of Alignment
        One per aligned stage; empty if no sample has two branches.
    link_samples : list of int
        Sample of each link of the alignments.
    """

    logits: list[list[Tensor] | Tensor | None]
    samples: list[list[int]]
    alignments: list[Alignment]
    link_samples: list[int]

    def mean_logits(self) -> list[Tensor] | Tensor:
        """Return the mean of the logits of each sample's present branches, in the structure of the logits."""
        batch_size = 1 + max(max(indices) for indices in self.samples if indices)
        first = next(logits for logits in self.logits if logits is not None)
        if isinstance(first, list):
            return [self._mean_of_scale(batch_size, scale) for scale in range(len(first))]
        return self._mean_of_scale(batch_size, None)

    def _mean_of_scale(self, batch_size: int, scale: int | None) -> Tensor:
        present = [
            (logits if scale is None else logits[scale], indices)
            for logits, indices in zip(self.logits, self.samples, strict=True)
            if logits is not None
        ]
        if all(len(indices) == batch_size for _, indices in present):
            return sum(logits for logits, _ in present) / len(present)
        first = present[0][0]
        total = first.new_zeros((batch_size, *first.shape[1:]))
        count = first.new_zeros((batch_size, *[1] * (first.ndim - 1)))
        for logits, indices in present:
            index = torch.tensor(indices, device=first.device)
            total = total.index_add(0, index, logits)
            count[index] += 1
        return total / count


class BranchDecoders(nn.ModuleList):
    """One decoder per branch, with the one switch for deep supervision that nnU-Net sets."""

    @property
    def deep_supervision(self) -> bool:
        """Whether the decoders return all scales."""
        return self[0].deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for decoder in self:
            decoder.deep_supervision = enabled


class RLU2Net(nn.Module):
    """The dual-branch (or multi-branch) network of RL-U2Net.

    The first block of parameters is that of nnU-Net's ``ResidualEncoderUNet`` or, with `n_conv_per_stage` in place of
    `n_blocks_per_stage`, of ``PlainConvUNet``, with the same meaning; with `swin_blocks_per_stage` in their place, the
    encoder is a `SwinEncoder`.

    Parameters
    ----------
    branches : sequence of sequence of int
        Input channels of each branch; every channel belongs to exactly one.
    branch_names : sequence of str
        Names of the branches.
    blank_values : sequence of float
        Value of each input channel where it is absent (`rl_nnunet.branches.blank_values`).
    aligned_stages : sequence of int
        Encoder stages with an XAlign module; empty for two independent U-Nets with a shared encoder.
    windows : sequence of sequence of int
        Attention window of each aligned stage.
    branch_dropout : float
        Probability, per sample and training step, that the branches do not see each other. Each branch is then trained
        as if the other were withheld, so that the single-modality paths become as good as the pair, at no lost data.
    channel_dropout : float
        Probability, per sample, training step and branch with two or more channels, that one of these is withheld, so
        that the branch can do with the others when a sequence is missing.
    xalign : dict
        Fields of `XAlignConfig` that differ from their defaults.
    swin_blocks_per_stage, swin_windows, swin_head_channels
        ``blocks_per_stage``, ``windows`` and ``head_channels`` of `SwinEncoder`.

    Raises
    ------
    ValueError
        If the branches do not use every input channel once, windows and aligned stages do not match, or not exactly
        one encoder is given.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[_ConvNd],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        num_classes: int,
        n_conv_per_stage_decoder: Sequence[int],
        n_blocks_per_stage: Sequence[int] | None = None,
        n_conv_per_stage: Sequence[int] | None = None,
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
        *,
        branches: Sequence[Sequence[int]],
        branch_names: Sequence[str],
        blank_values: Sequence[float],
        aligned_stages: Sequence[int],
        windows: Sequence[Sequence[int]],
        branch_dropout: float = 0.25,
        channel_dropout: float = 0.25,
        xalign: dict[str, Any] | None = None,
        swin_blocks_per_stage: Sequence[int] | None = None,
        swin_windows: Sequence[Sequence[int]] | None = None,
        swin_head_channels: int = 32,
    ) -> None:
        super().__init__()
        if sum(blocks is not None for blocks in (n_blocks_per_stage, n_conv_per_stage, swin_blocks_per_stage)) != 1:
            raise ValueError("give exactly one of n_blocks_per_stage, n_conv_per_stage and swin_blocks_per_stage")
        if sorted(c for channels in branches for c in channels) != list(range(input_channels)):
            raise ValueError(f"the branches {branches} must use each of the {input_channels} channels exactly once")
        if len(windows) != len(aligned_stages):
            raise ValueError(f"{len(aligned_stages)} aligned stages need as many windows, not {len(windows)}")
        self.branches = [list(channels) for channels in branches]
        self.branch_names = list(branch_names)
        self.branch_dropout = branch_dropout
        self.channel_dropout = channel_dropout
        self.register_buffer("blank_values", torch.tensor(blank_values, dtype=torch.float32), persistent=False)
        dimension = convert_conv_op_to_dim(conv_op)
        block_options = {
            "conv_op": conv_op, "conv_bias": conv_bias, "norm_op": norm_op, "norm_op_kwargs": norm_op_kwargs,
            "dropout_op": dropout_op, "dropout_op_kwargs": dropout_op_kwargs, "nonlin": nonlin,
            "nonlin_kwargs": nonlin_kwargs,
        }  # fmt: skip
        self.stems = nn.ModuleList(
            StackedConvBlocks(num_convs=1, input_channels=len(channels), output_channels=features_per_stage[0],
                              kernel_size=kernel_sizes[0], initial_stride=1, **block_options)
            for channels in branches
        )  # fmt: skip
        topology = {
            "input_channels": features_per_stage[0], "n_stages": n_stages, "features_per_stage": features_per_stage,
            "kernel_sizes": kernel_sizes, "strides": strides, **block_options,
        }  # fmt: skip
        if swin_blocks_per_stage is not None:
            self.encoder = SwinEncoder(
                blocks_per_stage=swin_blocks_per_stage, windows=swin_windows or (), head_channels=swin_head_channels,
                **topology,
            )  # fmt: skip
        elif n_blocks_per_stage is not None:
            self.encoder = ResidualEncoder(
                n_blocks_per_stage=n_blocks_per_stage, disable_default_stem=True, return_skips=True, **topology
            )
        else:
            self.encoder = PlainConvEncoder(n_conv_per_stage=n_conv_per_stage, return_skips=True, **topology)
        self.decoder = BranchDecoders(
            UNetDecoder(self.encoder, num_classes, n_conv_per_stage_decoder, deep_supervision) for _ in branches
        )
        config = XAlignConfig(**(xalign or {}))
        self.xalign = nn.ModuleDict(
            {
                str(stage): XAlign(features_per_stage[stage], dimension, len(branches), window, config, block_options,
                                   kernel_sizes[stage])
                for stage, window in zip(aligned_stages, windows, strict=True)
            }
        )  # fmt: skip

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize as nnU-Net does; nnU-Net applies this to every module."""
        InitWeights_He(1e-2)(module)
        init_last_bn_before_add_to_0(module)
        if isinstance(module, ResidualFusion):
            module.start_as_identity()

    def forward(self, x: Tensor) -> BranchOutput | Tensor | list[Tensor]:
        """Segment a batch.

        Parameters
        ----------
        x : Tensor
            (samples, channels, *spatial).

        Returns
        -------
        BranchOutput, Tensor or list of Tensor
            In training mode a `BranchOutput`. In evaluation mode the mean of the logits of each sample's present
            branches, (samples, classes, *spatial), as a list over scales with deep supervision.
        """
        output = self.forward_branches(x)
        return output if self.training else output.mean_logits()

    def forward_branches(self, x: Tensor) -> BranchOutput:
        """Segment a batch and keep the branches apart."""
        if self.training and self.channel_dropout > 0:
            x = self._withhold_channels(x)
        x, samples = self.samples_per_branch(x)
        stems = [
            stem(x[indices][:, channels])
            for stem, indices, channels in zip(self.stems, samples, self.branches, strict=True)
            if indices
        ]
        skips = list(self.encoder(torch.cat(stems)))
        links, link_samples = self._links(samples, x.device)
        alignments = []
        if link_samples:
            for stage, module in self.xalign.items():
                skips[int(stage)], alignment = module(skips[int(stage)], links)
                alignments.append(alignment)
        logits, start = [], 0
        for decoder, indices in zip(self.decoder, samples, strict=True):
            rows = slice(start, start + len(indices))
            logits.append(decoder([skip[rows] for skip in skips]) if indices else None)
            start += len(indices)
        return BranchOutput(logits, samples, alignments, link_samples)

    @torch.compiler.disable
    def samples_per_branch(self, x: Tensor) -> tuple[Tensor, list[list[int]]]:
        """Return the input, and per branch which samples of the batch have it (see `tell_present`)."""
        x, present = tell_present(x, self.branches, self.blank_values, self.branch_names, self.training)
        return x, rows_of(present)

    @torch.compiler.disable
    def _withhold_channels(self, x: Tensor) -> Tensor:
        """Blank one present channel of some branches with several, so that the branch learns to do with the others."""
        channels_alone = [[channel] for channel in range(x.shape[1])]
        present = present_groups(blank_channels(x, self.blank_values), channels_alone).cpu()
        kept = present.clone()
        for channels in (channels for channels in self.branches if len(channels) > 1):
            kept[:, channels] = withhold(present[:, channels], self.channel_dropout)
        if torch.equal(kept, present):
            return x
        shape = (*x.shape[:2], *[1] * (x.ndim - 2))
        blank = self.blank_values.view(1, -1, *shape[2:])
        return torch.where(kept.to(x.device).view(shape), x, blank.to(x.dtype))

    @torch.compiler.disable
    def _links(self, samples: list[list[int]], device: torch.device) -> tuple[Links, list[int]]:
        """Return all links between branches of one sample; in training, dropout leaves some samples without."""
        pairs = [(sample, branch) for branch, indices in enumerate(samples) for sample in indices]
        if self.training and self.branch_dropout > 0:
            alone = (torch.rand(1 + max(s for s, _ in pairs)) < self.branch_dropout).tolist()
        else:
            alone = [False] * (1 + max(s for s, _ in pairs))
        chosen = [
            (row, other, branch, other_branch, sample)
            for row, (sample, branch) in enumerate(pairs)
            for other, (other_sample, other_branch) in enumerate(pairs)
            if sample == other_sample and branch != other_branch and not alone[sample]
        ]
        table = torch.tensor(chosen, dtype=torch.long, device=device).view(-1, 5)
        return Links(table[:, 0], table[:, 1], table[:, 2:4]), [link[4] for link in chosen]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample with all branches; nnU-Net plans memory with it.

        Counted are all stems, the encoder once per branch, all decoders, and per link the projections and the output
        of the attention, the rotated maps, and the fused maps.
        """
        input_size = list(input_size)
        per_branch = self.encoder.compute_conv_feature_map_size(input_size)
        output = np.int64(sum(stem.compute_conv_feature_map_size(input_size) for stem in self.stems))
        output += per_branch * len(self.branches)
        output += np.int64(sum(decoder.compute_conv_feature_map_size(input_size) for decoder in self.decoder))
        links = len(self.branches) * (len(self.branches) - 1)
        size = np.array(input_size)
        for stage, stride in enumerate(self.encoder.strides):
            size = size // np.array(stride)
            if str(stage) in self.xalign:
                module = self.xalign[str(stage)]
                attention_maps = 0 if module.attention is None else 5
                maps = attention_maps + module.selected_rotations + 3
                output += np.int64(links * maps * self.encoder.output_channels[stage] * np.prod(size))
        return output
