"""RL-U2Net: one stem per branch, one shared encoder, RL-XAlign between the branches, one decoder for all or each.

After RL-U2Net (Qu and Zhao, arXiv 2508.02557), with nnU-Net's own encoders and decoders and its plans' topology::

    x - split by branch - stem_CT -+                               +- logits_CT
                          stem_MR -+- encoder - XAlign per stage - decoder
                                                                   +- logits_MR

The paper has a decoder for each branch. Branches of unpaired data share ours, as they share the encoder
(`shared_decoder`): a decoder of one's own learns from the labels of its branch alone (docs/benchmarks.md).

A branch whose patch is blank is left out: no stem, encoder, alignment or decoder runs for it. The other one is then
aligned with itself (`rl_nnunet.networks.xalign`). Hence one network serves one modality, the other, and both. The
network is described by plain keyword arguments that a JSON plan can carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_nnunet.networks.backbone import Backbone, initialize_as_nnunet
from rl_nnunet.networks.branch_normalization import separate_normalizations
from rl_nnunet.networks.carried_pose import CarriedPose
from rl_nnunet.networks.xalign import Links, ResidualFusion, XAlign, XAlignConfig, make_links
from rl_nnunet.outputs import Alignment, BranchOutput, to_device
from rl_nnunet.presence.patches import rows_of, tell_present


class BranchDecoders(nn.ModuleList):
    """One decoder per branch, or one for all, with the one switch for deep supervision that nnU-Net sets."""

    def decode(self, skips: Sequence[Tensor], counts: Sequence[int]) -> list[list[Tensor] | Tensor | None]:
        """Return the logits of each branch, None where it has no rows.

        Parameters
        ----------
        skips : sequence of Tensor
            The maps of all stages, (rows, features, *spatial); the rows of one branch lie behind those of another.
        counts : sequence of int
            Rows of each branch.
        """
        if len(self) == 1:  # of all rows at once: one large step costs less than several small ones
            return split_rows(self[0](list(skips)), counts)
        rows = zip(*(skip.split(list(counts)) for skip in skips), strict=True)
        return [decoder(list(own)) if count else None for decoder, own, count in zip(self, rows, counts, strict=True)]

    @property
    def deep_supervision(self) -> bool:
        """Whether the decoders return all scales."""
        return self[0].deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for decoder in self:
            decoder.deep_supervision = enabled


def split_rows(scales: list[Tensor] | Tensor, counts: Sequence[int]) -> list[list[Tensor] | Tensor | None]:
    """Return the rows of each branch of logits (rows, classes, *spatial), or of a list of them over scales."""
    if isinstance(scales, list):
        parts = [list(part) for part in zip(*(scale.split(list(counts)) for scale in scales), strict=True)]
    else:
        parts = list(scales.split(list(counts)))
    return [part if count else None for part, count in zip(parts, counts, strict=True)]


class RLU2Net(nn.Module):
    """The dual-branch (or multi-branch) network of RL-U2Net.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        Given by nnU-Net.
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
    turnable_axes : sequence of sequence of int, optional
        Axes that rotations may exchange at each aligned stage (see `XAlign`); all by default.
    carried_stages : sequence of int
        Stages before the first aligned one, whose maps are turned as that one has decided
        (`rl_nnunet.networks.carried_pose`).
    branch_dropout : float
        Probability, per sample and training step, that the branches do not see each other. Each branch is then trained
        as if the other were withheld, so that the single-modality paths become as good as the pair, at no lost data.
    shared_decoder : bool
        Whether all branches share one decoder, as it is planned for unpaired data, or have one each, as in the paper.
    branch_normalization : bool
        Whether the normalizations of the shared encoder have a scale and a shift per branch (see
        `rl_nnunet.networks.branch_normalization`).
    xalign : dict
        Fields of `XAlignConfig` that differ from their defaults.
    **backbone
        Fields of `rl_nnunet.networks.backbone.Backbone`.

    Attributes
    ----------
    together : sequence of sequence of int or None
        Which branches of each sample may see each other in the next training step; None stands for all.

    Raises
    ------
    ValueError
        If the branches do not use every input channel once, windows or turnable axes and aligned stages do not match,
        or the backbone cannot be built.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        branches: Sequence[Sequence[int]],
        branch_names: Sequence[str],
        blank_values: Sequence[float],
        aligned_stages: Sequence[int],
        windows: Sequence[Sequence[int]],
        turnable_axes: Sequence[Sequence[int]] | None = None,
        carried_stages: Sequence[int] = (),
        branch_dropout: float = 0.25,
        shared_decoder: bool = False,
        branch_normalization: bool = False,
        xalign: dict[str, Any] | None = None,
        **backbone: Any,
    ) -> None:
        super().__init__()
        plan = Backbone(**backbone)
        if sorted(c for channels in branches for c in channels) != list(range(input_channels)):
            raise ValueError(f"the branches {branches} must use each of the {input_channels} channels exactly once")
        if len(windows) != len(aligned_stages):
            raise ValueError(f"{len(aligned_stages)} aligned stages need as many windows, not {len(windows)}")
        turnable = [None] * len(aligned_stages) if turnable_axes is None else turnable_axes
        if len(turnable) != len(aligned_stages):
            raise ValueError(f"{len(aligned_stages)} aligned stages need as many turnable_axes, not {len(turnable)}")
        if max(carried_stages, default=-1) >= min(aligned_stages, default=0):
            raise ValueError(f"carried stages {carried_stages} must lie before the first aligned one, {aligned_stages}")
        if list(aligned_stages) != sorted(aligned_stages):
            raise ValueError(f"aligned stages must be in order, not {aligned_stages}")
        self.branches = [list(channels) for channels in branches]
        self.branch_names = list(branch_names)
        self.branch_dropout = branch_dropout
        self.together: Sequence[Sequence[int]] | None = None
        self.register_buffer("blank_values", torch.tensor(blank_values, dtype=torch.float32), persistent=False)
        self.stems = nn.ModuleList(plan.build_stem(len(channels)) for channels in branches)
        self.encoder = plan.build_encoder()
        self.rows = separate_normalizations(self.encoder, len(branches)) if branch_normalization else None
        decoders = 1 if shared_decoder else len(branches)
        self.decoder = BranchDecoders(plan.build_decoder(num_classes, deep_supervision) for _ in range(decoders))
        config = XAlignConfig(**(xalign or {}))
        self.feeds_encoder = config.feeds == "encoder"
        self.drawn = config.selected_rotations
        self.xalign = nn.ModuleDict(
            {
                str(stage): XAlign(plan.features_per_stage[stage], plan.dimension, len(branches), window, config,
                                   plan.block_options, plan.kernel_sizes[stage], axes)
                for stage, window, axes in zip(aligned_stages, windows, turnable, strict=True)
            }
        )  # fmt: skip
        exchanged = [module.exchanged for module in self.xalign.values()]
        self.carried = nn.ModuleDict(
            {
                str(stage): CarriedPose(
                    plan.features_per_stage[stage], plan.dimension, exchanged[0], config, plan.block_options
                )
                for stage in carried_stages
            }
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize as nnU-Net does; nnU-Net applies this to every module."""
        initialize_as_nnunet(module)
        if isinstance(module, ResidualFusion):
            module.start_as_identity()
        if isinstance(module, RLU2Net):  # the last one, when all stems are initialized
            module.start_stems_alike()

    @torch.no_grad()
    def start_stems_alike(self) -> None:
        """Give stems of as many channels the weights of the first of them.

        To the shared encoder, equal anatomy then looks alike from the start, as it does to a network that takes all
        branches for one kind of scan; what differs between them, the stems learn. With two or four labelled patients in
        one branch, that is worth four points of Dice, in two seeds (docs/benchmarks.md).
        """
        first: dict[int, nn.Module] = {}
        for stem, channels in zip(self.stems, self.branches, strict=True):
            stem.load_state_dict(first.setdefault(len(channels), stem).state_dict())

    def agents_parameters(self) -> list[str]:
        """Return the names of the parameters that agents train, and the loss does not: those of the pose policies."""
        return [name for name, _ in self.named_parameters() if ".policy." in name]

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
        x, samples = self.samples_per_branch(x)
        stems = [
            stem(x[indices][:, channels])
            for stem, indices, channels in zip(self.stems, samples, self.branches, strict=True)
            if indices
        ]
        if self.rows is not None:
            of_rows = [branch for branch, indices in enumerate(samples) for _ in indices]
            self.rows.branches = to_device(of_rows, x.device)
        links, link_samples, link_branches = self._links(samples, x.device)
        skips, alignments = self._encode(torch.cat(stems), links)
        logits = self.decoder.decode(skips, [len(indices) for indices in samples])
        return BranchOutput(logits, samples, alignments, link_samples, link_branches)

    def _encode(self, x: Tensor, links: Links) -> tuple[list[Tensor], list[Alignment]]:
        """Run the encoder stage by stage; return the maps for the skips, and what was aligned."""
        skips, alignments = [], []
        for stage, encoder_stage in enumerate(self.encoder.stages):
            x = skip = encoder_stage(x)
            if str(stage) in self.xalign:
                skip, alignment = self.xalign[str(stage)](skip, links)
                if alignment is not None:
                    alignments.append(alignment)
                x = skip if self.feeds_encoder else x
            skips.append(skip)
        rotations = alignments[0].rotations if alignments else None
        for stage, module in self.carried.items():
            skips[int(stage)] = module(skips[int(stage)], links, rotations)
        return skips, alignments

    @torch.compiler.disable
    def samples_per_branch(self, x: Tensor) -> tuple[Tensor, list[list[int]]]:
        """Return the input, and per branch which samples of the batch have it (see `tell_present`)."""
        x, present = tell_present(x, self.branches, self.blank_values, self.branch_names, self.training)
        return x, rows_of(present)

    @torch.compiler.disable
    def _links(self, samples: list[list[int]], device: torch.device) -> tuple[Links, list[int], list[tuple[int, int]]]:
        """Return all links between branches of one sample, with their samples and directions on the host.

        In training, dropout and `together` leave some samples without.
        """
        pairs = [(sample, branch) for branch, indices in enumerate(samples) for sample in indices]
        if self.training and self.branch_dropout > 0:
            alone = (torch.rand(1 + max(s for s, _ in pairs)) < self.branch_dropout).tolist()
        else:
            alone = [False] * (1 + max(s for s, _ in pairs))
        everyone = range(len(self.branches))
        chosen = [
            (row, other, branch, other_branch, sample)
            for row, (sample, branch) in enumerate(pairs)
            for other, (other_sample, other_branch) in enumerate(pairs)
            if sample == other_sample
            and branch != other_branch
            and not alone[sample]
            and {branch, other_branch} <= set(self.together[sample] if self.training and self.together else everyone)
        ]
        links = make_links([link[:4] for link in chosen], len(pairs), device)
        return links, [link[4] for link in chosen], [link[2:4] for link in chosen]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample with all branches; nnU-Net plans memory with it.

        Counted are all stems, encoder and decoder once per branch, and RL-XAlign. nnU-Net counts the maps of
        convolutions, which are kept twice for the gradient, before and after their normalization; a map that is kept
        once is half of one. At an aligned stage these are, of a link, both branches' maps, queries, keys, values, the
        attended, projected and turned maps, and of a branch, the fused map; the residual block has two convolutions.
        At a carried stage they are, of a link, the auxiliary map and the turned ones, and of a branch, seven maps.
        """
        input_size, branches = list(input_size), len(self.branches)
        output = np.int64(sum(stem.compute_conv_feature_map_size(input_size) for stem in self.stems))
        output += self.encoder.compute_conv_feature_map_size(input_size) * branches
        output += self.decoder[0].compute_conv_feature_map_size(input_size) * branches
        size, links = np.array(input_size), branches * (branches - 1)
        for stage, stride in enumerate(self.encoder.strides):
            size = size // np.array(stride)
            maps = 0.0
            if str(stage) in self.xalign:
                of_link = 7 if self.xalign[str(stage)].attention is not None else 1
                of_link += self.drawn if self.drawn == 1 else 2 * self.drawn
                maps = links * of_link / 2 + branches * (1 / 2 + 2)
            elif str(stage) in self.carried:
                maps = links * (1 + self.drawn) / 2 + branches * 7 / 2
            output += np.int64(maps * self.encoder.output_channels[stage] * np.prod(size))
        return output
