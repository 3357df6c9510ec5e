"""The network of the intra- and the inter-modality agent, for segmentation: one encoder per modality, refined T times.

After Zhu et al., "Reinforcement Learning Driven Intra-modal and Inter-modal Representation Learning for 3D Medical
Image Classification", section 2, with nnU-Net's encoders and decoder in the place of its classifier::

    x_m - stem_m - (x W_s) - encoder_m -+- head_m ------------------------------------ O_m
                                        +- (x W_f,m) - concat, 1x1 per stage - decoder - O_fusion

W_s are the intra agent's weights of the channels behind the stem, the same for all modalities; W_f are the inter
agent's weights, one per modality (eq. 1). Iteration 0 runs with all weights 1; after each iteration the agents see what
came out and propose the weights of the next, T times. The decision is the weighted sum of all outputs of the last
iteration, ``O_fusion + sum W_f,m O_m / lambda``, where lambda = 4 is that of eq. 2.

The paper sums the outputs without weights. It differs from ours in two ways (docs/benchmarks.md has measurements):

- **W_f,m.** What W_f does to the concatenation, the fusion layer behind it can undo: where it has learnt to ignore a
  useless modality, that one's weight makes no difference to the reward, and drifts. Behind a modality's own output
  there is no layer that could undo it; weighed, it tells the inter agent what the modality is worth.
- **lambda.** A modality that does not show a structure learns to deny it, and in a plain sum three that do not outvote
  the fused output and the one that does. The weights of eq. 2 give the fused output the say of four modalities.

Where the paper, which classifies, is silent: W_f weighs the modality's maps of every stage, because the decoder takes
them all; the fully connected fusion layer is a 1x1 convolution per stage; a modality's own head is one 1x1 convolution
per stage, upsampled and added (the skip heads of FCN), which costs little beside its encoder. It begins with the second
stage, because an own output at full resolution costs more, in heads and losses, than it gains. What the agents see is
ours, see `rl_nnunet.networks.observer`.

The encoders may be smaller than what the decoder is made for (``modality_encoder``): M of them at the size of nnU-Net's
one cost more time than they are worth. The fusion of each stage leads from their channels to those of the decoder.

The backbone is trained on the mean actions of the agents, those of a prediction: trained under the noise of their
exploration in every iteration, it learns to ignore them. In a share of the steps the agents explore in a second pass
over the same batch, without gradient, from the same iteration 0 on; what they are rewarded for is the difference.

A modality whose patch is blank, or constant beside others that are not, is left out: no encoder and no head runs for
it, its place in the concatenation is zero, and its weight is no action of the inter agent.

Weights W_s change everything behind the stems, hence only the stems are shared between iterations. In training, the
gradient passes through the first and the last iteration (`trained_iterations`; the paper trains all of them), and all
but the last keep none of their maps and compute them again for their gradients: the memory is that of one iteration
and not of T + 1. A prediction runs the decoder only once, in the last iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rl_nnunet.networks.backbone import Backbone, initialize_as_nnunet
from rl_nnunet.networks.modality_head import ModalityHead
from rl_nnunet.networks.observer import Observer, channel_spreads, input_statistics, output_statistics
from rl_nnunet.networks.rows import place, take
from rl_nnunet.outputs import Exploration, IntraInterOutput, IterationOutput
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy
from rl_nnunet.policies.rollout import Rollout
from rl_nnunet.presence.patches import rows_of, tell_present

AGENTS = ("intra", "inter")
LEARNING = ("reinforcement", "gradient")
TRAINED_ITERATIONS = ("ends", "all")


class Scene(NamedTuple):
    """What is the same in all iterations.

    Attributes
    ----------
    shallow : list of Tensor or None
        Maps behind each modality's stem, (its samples, C, *spatial); None where no sample has it.
    samples : list of list of int
        Per modality, the samples that have it.
    present : Tensor
        Booleans (B, M), what fusion, decision and agents get.
    inputs, channels : Tensor
        What the agents see of input and stems, see `rl_nnunet.networks.observer`.
    """

    shallow: list[Tensor | None]
    samples: list[list[int]]
    present: Tensor
    inputs: Tensor
    channels: Tensor


def _check_choices(agents: Sequence[str], iterations: int, learning: str, trained_iterations: str) -> None:
    if not set(agents) <= set(AGENTS) or bool(agents) != bool(iterations):
        raise ValueError(f"agents {list(agents)} do not fit {iterations} iterations; known agents are {AGENTS}")
    if learning not in LEARNING:
        raise ValueError(f"learning must be one of {LEARNING}, not {learning!r}")
    if trained_iterations not in TRAINED_ITERATIONS:
        raise ValueError(f"trained_iterations must be one of {TRAINED_ITERATIONS}, not {trained_iterations!r}")


class IntraInterNet(nn.Module):
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
        Of ``intra`` and ``inter``; the weights of an absent agent stay 1.
    iterations : int
        T, how often the decision is refined; 0 without agents.
    hidden_size : int
        Of the policies' recurrent networks.
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
        exploration_share: float = 0.5,
        learning: str = "reinforcement",
        trained_iterations: str = "ends",
        prediction_iterations: int | None = None,
        modality_encoder: dict[str, Any] | None = None,
        **backbone: Any,
    ) -> None:
        super().__init__()
        plan = Backbone(**backbone)
        encoder_plan = replace(plan, **(modality_encoder or {}))
        _check_choices(agents, iterations, learning, trained_iterations)
        self.modality_names = list(modality_names)
        self.iterations = iterations
        self.fused_output_weight = fused_output_weight
        self.exploration_share = exploration_share
        self.is_gated = learning == "gradient"
        self.trained_iterations = trained_iterations
        # Without agents, another iteration would be the same again.
        refinements = prediction_iterations if agents else None
        self.prediction_iterations = iterations if refinements is None else refinements
        self.dimension = plan.dimension
        self.register_buffer("blank_values", torch.tensor(blank_values, dtype=torch.float32), persistent=False)
        self.groups = [[channel] for channel in range(input_channels)]
        features, modalities = encoder_plan.features_per_stage, len(self.groups)
        self.stems = nn.ModuleList(encoder_plan.build_stem(1) for _ in self.groups)
        self.encoders = nn.ModuleList(encoder_plan.build_encoder() for _ in self.groups)
        self.first_head_stage = min(1, plan.n_stages - 1)
        head_features = features[self.first_head_stage :]
        self.heads = nn.ModuleList(ModalityHead(plan.conv_op, head_features, num_classes) for _ in self.groups)
        sizes = zip(features, plan.features_per_stage, strict=True)
        self.fusions = nn.ModuleList(plan.conv_op(modalities * own, fused, 1) for own, fused in sizes)
        self.decoder = plan.build_decoder(num_classes, deep_supervision)
        self.observer = Observer(modalities, features[0], regions)
        sizes = {"intra": features[0], "inter": modalities}
        self.policies = nn.ModuleDict(
            {name: RecurrentGaussianPolicy(self.observer.sizes[name], sizes[name], hidden_size) for name in agents}
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize as nnU-Net does; nnU-Net applies this to every module."""
        initialize_as_nnunet(module)

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
        names = None if self.training else self.modality_names
        x, present = tell_present(x, self.groups, self.blank_values, names)
        samples = rows_of(present)
        scene = self._enter(x, samples, present)
        effective = {"intra": present.new_ones(len(x), self.observer.channels.mean.numel()), "inter": present}
        ones = {name: entries.to(x.dtype) for name, entries in effective.items()}
        rollout = Rollout(self.policies, effective, draw=False, differentiable=self.is_gated)
        last = self.iterations if self.training else self.prediction_iterations
        output, seen = self._run(scene, ones, 0, last)
        outputs, exploration, weights = [output], None, {}
        if self.training and self.policies and not self.is_gated and torch.rand(()) < self.exploration_share:
            exploration = self._explore(scene, seen, ones, effective)
        for iteration in range(1, last + 1):
            weights = rollout.act(seen)
            output, seen = self._run(scene, {**ones, **weights}, iteration, last)
            outputs.append(output)
        if self.training:
            logged = {name: value.detach().where(effective[name], torch.nan) for name, value in weights.items()}
            trained = [t for t in range(last + 1) if self._is_trained(t)]
            return IntraInterOutput(outputs, trained, samples, logged, exploration)
        if self.decoder.deep_supervision:
            return [outputs[-1].decision, *outputs[-1].fused[1:]]
        return outputs[-1].decision

    def _enter(self, x: Tensor, samples: list[list[int]], present: Tensor) -> Scene:
        """Return what is the same in all iterations: the maps behind the stems, and what is seen of the input."""
        shallow, spreads = [], []
        for stem, rows, channels in zip(self.stems, samples, self.groups, strict=True):
            if not rows:
                shallow.append(None)
                continue
            convolution, *rest = stem.convs[0].all_modules
            convolved = convolution(x[rows, channels[0]].unsqueeze(1))
            spreads.append(place(channel_spreads(convolved), rows, len(x)) * present[:, channels])
            shallow.append(nn.Sequential(*rest)(convolved))
        mean_spreads = sum(spreads) / present.sum(1, keepdim=True)
        return Scene(shallow, samples, present, input_statistics(x, present, self.blank_values), mean_spreads)

    def _is_trained(self, iteration: int) -> bool:
        """Return whether the gradient of the loss passes through an iteration."""
        return self.trained_iterations == "all" or iteration in (0, self.iterations)

    def _run(
        self, scene: Scene, weights: dict[str, Tensor], iteration: int, last: int
    ) -> tuple[IterationOutput | None, dict[str, Tensor]]:
        """Run an iteration of the episode with mean actions; return its output and what the agents see of it."""
        if iteration == last:  # the backward pass begins here: keeping the maps costs no more memory
            return self._iterate(scene, weights, True)[0], {}
        if not self.training:
            output, statistics = self._iterate(scene, weights, False)
        elif self._is_trained(iteration):
            output, statistics = checkpoint(self._iterate, scene, weights, True, use_reentrant=False)
        else:
            with torch.no_grad():
                output, statistics = self._iterate(scene, weights, True)
        return output, self.observer(scene.inputs, scene.channels, statistics, scene.present, self.training)

    @torch.no_grad()
    def _explore(
        self, scene: Scene, seen: dict[str, Tensor], ones: dict[str, Tensor], effective: dict[str, Tensor]
    ) -> Exploration:
        """Refine the first iteration with drawn actions."""
        rollout, decisions = Rollout(self.policies, effective, draw=True), []
        for _ in range(self.iterations):
            output, statistics = self._iterate(scene, {**ones, **rollout.act(seen)}, True)
            decisions.append(output.decision)
            seen = self.observer(scene.inputs, scene.channels, statistics, scene.present, False)
        return Exploration(decisions, rollout.episodes())

    def _iterate(
        self, scene: Scene, weights: dict[str, Tensor], decide: bool
    ) -> tuple[IterationOutput | None, Tensor | None]:
        """Run one iteration; return its output (None unless `decide`) and the statistics of the own outputs."""
        spatial, intra, samples, size = [1] * self.dimension, weights["intra"], scene.samples, len(scene.present)
        inter = weights["inter"] * scene.present
        maps = [
            None if stem is None else encoder(stem * take(intra, rows).view(len(rows), -1, *spatial).to(stem.dtype))
            for encoder, stem, rows in zip(self.encoders, scene.shallow, samples, strict=True)
        ]
        heads = zip(self.heads, maps, strict=True)
        own = [None if one is None else head(one[self.first_head_stage :]) for head, one in heads]
        statistics = None
        if self.policies:
            statistics = output_statistics(own, inter, samples, scene.present, self.observer.regions)
        if not decide:
            return None, statistics
        fused = self.decoder([self._fuse(maps, stage, inter, samples) for stage in range(len(self.fusions))])
        weighted = sum(
            place(logits, rows, size) * inter[:, m].view(-1, 1, *spatial).to(logits.dtype)
            for m, (logits, rows) in enumerate(zip(own, samples, strict=True))
            if logits is not None
        )
        finest = fused[0] if isinstance(fused, list) else fused
        mode = "trilinear" if self.dimension == 3 else "bilinear"
        weighted = F.interpolate(weighted / self.fused_output_weight, size=finest.shape[2:], mode=mode)
        return IterationOutput(fused, own, finest + weighted), statistics

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
        the other iterations keep no maps), and what every iteration returns, those of an exploration included.
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
            total += np.prod([fusion.in_channels + fusion.out_channels + heads, *size], dtype=np.int64)
        returned = (2 * (self.iterations + 1) + self.iterations) * classes
        return total + np.prod([returned, *input_size], dtype=np.int64)
