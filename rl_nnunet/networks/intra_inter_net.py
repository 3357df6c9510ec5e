"""The network of the intra- and the inter-modality agent, for segmentation: one encoder per modality, refined T times.

After Zhu et al., "Reinforcement Learning Driven Intra-modal and Inter-modal Representation Learning for 3D Medical
Image Classification", section 2, with nnU-Net's encoders and decoder in the place of its classifier::

    x_m - stem_m - (x W_s) - encoder_m -+- head_m ------------------------------------ O_m
                                        +- (x W_f,m) - concat, 1x1 per stage - decoder - O_fusion

The weights, the agents and the loop are those of `rl_nnunet.networks.iterated_net`. The decision is the weighted sum of
all outputs of the last iteration, ``O_fusion + sum W_f,m O_m / lambda``, where lambda = 4 is that of eq. 2.

The paper sums the outputs without weights. It differs from ours in two ways (docs/benchmarks.md has measurements):

- **W_f,m.** What W_f does to the concatenation, the fusion layer behind it can undo: where it has learnt to ignore a
  useless modality, that one's weight makes no difference to the reward, and drifts. Behind a modality's own output
  there is no layer that could undo it; weighed, it tells the inter agent what the modality is worth.
- **lambda.** A modality that does not show a structure learns to deny it, and in a plain sum three that do not outvote
  the fused output and the one that does. The weights of eq. 2 give the fused output the say of four modalities.

Where the paper, which classifies, is silent: W_f weighs the modality's maps of every stage, because the decoder takes
them all; the fully connected fusion layer is a 1x1 convolution per stage; a modality's own head is one 1x1 convolution
per stage, upsampled and added (the skip heads of FCN), which costs little beside its encoder. It begins with the second
stage, because an own output at full resolution costs more, in heads and losses, than it gains.

The encoders may be smaller than what the decoder is made for (``modality_encoder``): M of them at the size of nnU-Net's
one cost more time than they are worth. The fusion of each stage leads from their channels to those of the decoder.

Where a modality is left out, no head runs for it, and its place in the concatenation is zero. A prediction runs the
decoder only once, in the last iteration.

In the place of both agents, a third one may leave out a modality that spoils the decision
(`rl_nnunet.agents.selection`): nothing is refined, and every modality is encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rl_nnunet.networks.backbone import Backbone
from rl_nnunet.networks.iterated_net import AGENTS, SELECTION, IteratedNet, Iterations, Scene
from rl_nnunet.networks.modality_head import ModalityHead
from rl_nnunet.networks.observer import Observer, output_statistics
from rl_nnunet.networks.rows import place
from rl_nnunet.outputs import IntraInterOutput, IterationOutput, Selection
from rl_nnunet.policies.selection import SelectionPolicy
from rl_nnunet.presence.patches import rows_of, tell_present


class IntraInterNet(IteratedNet):
    """One encoder per modality, whose features two agents weigh; every input channel is a modality.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        Given by nnU-Net.
    modality_names : sequence of str
        Names of the input channels.
    blank_values : sequence of float
        Value of each input channel where it is absent (`rl_nnunet.branches.blank_values`).
    agents : sequence of str
        Of ``intra`` and ``inter``; the weights of an absent agent stay 1. Or ``selection`` alone.
    iterations : int
        T, how often the decision is refined; 0 without agents that refine it.
    hidden_size : int
        Of the policies' networks.
    fused_output_weight : float
        lambda of eq. 2, by which the decision divides the modalities' own outputs.
    regions : bool
        Whether the classes are regions, which overlap; the agents see the outputs as probabilities.
    exploration_share : float
        Probability that the agents explore in a training step.
    learning : {"reinforcement", "gradient"}
        Whether agents train the policies, or the loss does, as it trains a gate: the ablation that agents have to beat.
    trained_iterations : {"ends", "all"}
        Which iterations the backbone is trained in: the first and the last, or all, as in the paper.
    modality_encoder : dict, optional
        Fields of `rl_nnunet.networks.backbone.Backbone` in which stems and encoders differ from `backbone`.
    prediction_iterations : int, optional
        How often a prediction is refined; `iterations` where not given.
    **backbone
        Fields of `rl_nnunet.networks.backbone.Backbone`.

    Raises
    ------
    ValueError
        If an agent is unknown, there are agents but no iterations or the other way round, `learning` or the trained
        iterations are none of the choices, or the backbone cannot be built.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        modality_names: Sequence[str],
        blank_values: Sequence[float],
        agents: Sequence[str] = AGENTS,
        iterations: int = 3,
        hidden_size: int = 64,
        fused_output_weight: float = 4.0,
        regions: bool = False,
        exploration_share: float = 1.0,
        learning: str = "reinforcement",
        trained_iterations: str = "ends",
        prediction_iterations: int | None = None,
        modality_encoder: dict[str, Any] | None = None,
        **backbone: Any,
    ) -> None:
        plan = Backbone(**backbone)
        encoder_plan = replace(plan, **(modality_encoder or {}))
        loop = Iterations(
            agents, iterations, hidden_size, exploration_share, learning, trained_iterations, prediction_iterations
        )
        super().__init__(modality_names, blank_values, fused_output_weight, loop, encoder_plan)
        features, modalities = encoder_plan.features_per_stage, len(self.groups)
        self.first_head_stage = min(1, plan.n_stages - 1)
        head_features = features[self.first_head_stage :]
        self.heads = nn.ModuleList(ModalityHead(plan.conv_op, head_features, num_classes) for _ in self.groups)
        sizes = zip(features, plan.features_per_stage, strict=True)
        self.fusions = nn.ModuleList(plan.conv_op(modalities * own, fused, 1) for own, fused in sizes)
        self.decoder = plan.build_decoder(num_classes, deep_supervision)
        self._add_policies(loop, Observer(modalities, features[0], regions), features[0])
        if loop.selects:
            self.policies[SELECTION] = SelectionPolicy(self.observer.sizes["inter"], modalities, hidden_size)

    def forward(self, x: Tensor) -> IntraInterOutput | Tensor | list[Tensor]:
        """Segment a batch.

        Parameters
        ----------
        x : Tensor
            (B, M, *spatial).

        Returns
        -------
        IntraInterOutput, Tensor or list of Tensor
            In training mode an `IntraInterOutput`. In evaluation mode the decision of the last iteration,
            (B, classes, *spatial); with deep supervision a list, whose coarser scales are those of O_fusion alone.
        """
        return self._forward_selecting(x) if SELECTION in self.policies else super().forward(x)

    def _forward_selecting(self, x: Tensor) -> IntraInterOutput | Tensor | list[Tensor]:
        """Decide with the modalities that the selection policy keeps; in training with all, and at times without each.

        Every modality is encoded once: what is left out of the decision is a weight of 0.
        """
        x, present = tell_present(x, self.groups, self.blank_values, None if self.training else self.modality_names)
        scene = self._enter(x, rows_of(present), present)
        maps = self._encode(scene, present.new_ones(len(x), self.observer.channels.mean.numel(), dtype=x.dtype))
        own = self._own_outputs(maps)
        statistics = output_statistics(own, present.to(x.dtype), scene.samples, present, self.observer.regions)
        seen = self.observer(scene.inputs, scene.channels, statistics, present, self.training)["inter"]
        if not self.training:
            kept = self.policies[SELECTION](seen, present)
            return self._result(self._decide(maps, own, kept.to(x.dtype), scene.samples))
        output, selection = self._decide(maps, own, present.to(x.dtype), scene.samples), None
        if torch.rand(()) < self.exploration_share:
            selection = Selection(seen, present, self._leave_out_each(maps, own, scene))
        return IntraInterOutput([output], [0], scene.samples, {}, None, selection)

    @torch.no_grad()
    def _leave_out_each(self, maps: list[list[Tensor] | None], own: list[Tensor | None], scene: Scene) -> list[Tensor]:
        """Return the decisions without each modality."""
        decisions = []
        for modality in range(len(self.groups)):
            kept = scene.present.float()
            kept[:, modality] = 0
            decisions.append(self._decide(maps, own, kept, scene.samples).decision)
        return decisions

    def _result(self, last: IterationOutput) -> Tensor | list[Tensor]:
        """Return the decision (B, classes, *spatial); with deep supervision, behind it coarser scales of O_fusion."""
        return [last.decision, *last.fused[1:]] if self.decoder.deep_supervision else last.decision

    def _iterate(
        self, scene: Scene, weights: dict[str, Tensor], decide: bool
    ) -> tuple[IterationOutput | None, Tensor | None]:
        """Run one iteration; return its output (None unless `decide`) and the statistics of the own outputs."""
        inter = weights["inter"] * scene.present
        maps = self._encode(scene, weights["intra"])
        own = self._own_outputs(maps)
        statistics = None
        if self.policies:
            statistics = output_statistics(own, inter, scene.samples, scene.present, self.observer.regions)
        return self._decide(maps, own, inter, scene.samples) if decide else None, statistics

    def _own_outputs(self, maps: list[list[Tensor] | None]) -> list[Tensor | None]:
        """Return the logits of each modality alone."""
        heads = zip(self.heads, maps, strict=True)
        return [None if one is None else head(one[self.first_head_stage :]) for head, one in heads]

    def _decide(
        self, maps: list[list[Tensor] | None], own: list[Tensor | None], inter: Tensor, samples: list[list[int]]
    ) -> IterationOutput:
        """Fuse and decide with the weights W_f (B, M), 0 where a modality has no say."""
        spatial, size = [1] * self.dimension, len(inter)
        fused = self.decoder([self._fuse(maps, stage, inter, samples) for stage in range(len(self.fusions))])
        weighted = sum(
            place(logits, rows, size) * inter[:, m].view(-1, 1, *spatial).to(logits.dtype)
            for m, (logits, rows) in enumerate(zip(own, samples, strict=True))
            if logits is not None
        )
        finest = fused[0] if isinstance(fused, list) else fused
        mode = "trilinear" if self.dimension == 3 else "bilinear"
        weighted = F.interpolate(weighted / self.fused_output_weight, size=finest.shape[2:], mode=mode)
        return IterationOutput(fused, own, finest + weighted)

    def _fuse(self, maps: list[list[Tensor] | None], stage: int, inter: Tensor, samples: list[list[int]]) -> Tensor:
        """Return the fused map of a stage: the weighted maps of all modalities (eq. 1) through a 1x1 convolution."""
        size, spatial = len(inter), [1] * self.dimension
        example = next(one[stage] for one in maps if one is not None)
        weighted = [
            example.new_zeros(size, *example.shape[1:])
            if one is None
            else place(one[stage], rows, size) * inter[:, m].view(-1, 1, *spatial).to(example.dtype)
            for m, (one, rows) in enumerate(zip(maps, samples, strict=True))
        ]
        return self.fusions[stage](torch.cat(weighted, dim=1))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample with all modalities; nnU-Net plans memory with it.

        Counted are the stems, one iteration (all encoders, the concatenated and the fused maps, heads and decoder;
        the other iterations keep no maps), and what every iteration returns, and what agents try out. nnU-Net counts
        the maps of convolutions, which are kept twice for the gradient, before and after their normalization; all but
        stems, encoders and decoder are kept once here, and count half.
        """
        input_size, modalities = list(input_size), len(self.groups)
        total = np.int64(sum(stem.compute_conv_feature_map_size(input_size) for stem in self.stems))
        total += sum(encoder.compute_conv_feature_map_size(input_size) for encoder in self.encoders)
        total += self.decoder.compute_conv_feature_map_size(input_size)
        classes = self.decoder.num_classes
        size = np.array(input_size)
        for stage, stride in enumerate(self.encoders[0].strides):
            size = size // np.array(stride)
            fusion = self.fusions[stage]
            heads = modalities * classes if stage >= self.first_head_stage else 0
            total += np.prod([fusion.in_channels + fusion.out_channels + heads, *size], dtype=np.int64) // 2
        tried = modalities if SELECTION in self.policies else self.iterations
        returned = (2 * (self.iterations + 1) + tried) * classes
        return total + np.prod([returned, *input_size], dtype=np.int64) // 2
