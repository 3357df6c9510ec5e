"""The iterations of the intra- and the inter-modality agent, whatever comes out of them: a base of two networks.

After Zhu et al., "Reinforcement Learning Driven Intra-modal and Inter-modal Representation Learning for 3D Medical
Image Classification", section 2::

    x_m - stem_m - (x W_s) - encoder_m - the network's outputs, which weigh modality m by W_f,m

W_s are the intra agent's weights of the channels behind the stem, the same for all modalities; W_f are the inter
agent's weights, one per modality (eq. 1). Iteration 0 runs with all weights 1; after each iteration the agents see what
came out and propose the weights of the next, T times. What the agents see is ours, see `rl_nnunet.networks.observer`.

The backbone is trained on the mean actions of the agents, those of a prediction: trained under the noise of their
exploration in every iteration, it learns to ignore them. In a share of the steps the agents explore in a second pass
over the same batch, without gradient, from the same iteration 0 on; what they are rewarded for is the difference.

A modality whose patch is blank, or constant beside others that are not, is left out: no encoder runs for it, and its
weight is no action of the inter agent.

Weights W_s change everything behind the stems, hence only the stems are shared between iterations. In training, the
gradient passes through the first and the last iteration or through all (`trained_iterations`), and all but the last
keep none of their maps and compute them again for their gradients: the memory is that of one iteration and not of
T + 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rl_nnunet.networks.backbone import Backbone, initialize_as_nnunet
from rl_nnunet.networks.observer import Observer, channel_spreads, input_statistics
from rl_nnunet.networks.rows import place, take
from rl_nnunet.outputs import Exploration, IntraInterOutput, IterationOutput
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy
from rl_nnunet.policies.rollout import Rollout
from rl_nnunet.presence.patches import rows_of, tell_present

AGENTS = ("intra", "inter")
SELECTION = "selection"
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


@dataclass(frozen=True)
class Iterations:
    """How a network iterates.

    Parameters
    ----------
    agents : sequence of str
        Of ``intra`` and ``inter``; the weights of an absent agent stay 1. Or ``selection`` alone, which refines nothing
        and leaves out a modality.
    iterations : int
        T, how often the decision is refined; 0 without agents that refine it.
    hidden_size : int
        Of the policies' networks.
    exploration_share : float
        Probability that the agents explore in a training step.
    learning : {"reinforcement", "gradient"}
        Whether agents train the policies, or the loss does, as it trains a gate: the ablation that agents have to beat.
    trained_iterations : {"ends", "all"}
        Which iterations the backbone is trained in: the first and the last, or all, as in the paper.
    prediction_iterations : int, optional
        How often a prediction is refined; `iterations` where not given.

    Raises
    ------
    ValueError
        If an agent is unknown, there are agents but no iterations or the other way round, or `learning` or the trained
        iterations are none of the choices.
    """

    agents: Sequence[str]
    iterations: int
    hidden_size: int
    exploration_share: float
    learning: str
    trained_iterations: str
    prediction_iterations: int | None

    def __post_init__(self) -> None:
        """Check the choices."""
        refining = [] if self.selects else self.agents
        if not set(refining) <= set(AGENTS) or bool(refining) != bool(self.iterations):
            raise ValueError(
                f"agents {list(self.agents)} do not fit {self.iterations} iterations; known agents are {AGENTS}, and "
                f"{SELECTION} alone, with 0 iterations"
            )
        if self.learning not in LEARNING:
            raise ValueError(f"learning must be one of {LEARNING}, not {self.learning!r}")
        if self.trained_iterations not in TRAINED_ITERATIONS:
            raise ValueError(f"trained_iterations must be one of {TRAINED_ITERATIONS}, not {self.trained_iterations!r}")

    @property
    def selects(self) -> bool:
        """Whether the agent is the one that leaves out a modality."""
        return list(self.agents) == [SELECTION]


class IteratedNet(nn.Module):
    """Stems and encoders of all modalities, policies, and the loop; a network of ours adds the outputs.

    Parameters
    ----------
    modality_names : sequence of str
        Names of the input channels.
    blank_values : sequence of float
        Value of each input channel where it is absent (`rl_nnunet.branches.blank_values`).
    fused_output_weight : float
        lambda of eq. 2.
    iterations : Iterations
        Of the loop.
    encoder_plan : Backbone
        Of stems and encoders.
    """

    def __init__(
        self,
        modality_names: Sequence[str],
        blank_values: Sequence[float],
        fused_output_weight: float,
        iterations: Iterations,
        encoder_plan: Backbone,
    ) -> None:
        super().__init__()
        self.modality_names = list(modality_names)
        self.iterations = iterations.iterations
        self.fused_output_weight = fused_output_weight
        self.exploration_share = iterations.exploration_share
        self.is_gated = iterations.learning == "gradient"
        self.trained_iterations = iterations.trained_iterations
        # Without agents, another iteration would be the same again.
        refinements = iterations.prediction_iterations if iterations.agents else None
        self.prediction_iterations = iterations.iterations if refinements is None else refinements
        self.dimension = encoder_plan.dimension
        self.register_buffer("blank_values", torch.tensor(blank_values, dtype=torch.float32), persistent=False)
        self.groups = [[channel] for channel in range(len(self.modality_names))]
        self.stems = nn.ModuleList(encoder_plan.build_stem(1) for _ in self.groups)
        self.encoders = nn.ModuleList(encoder_plan.build_encoder() for _ in self.groups)

    def _add_policies(self, iterations: Iterations, observer: Observer, channels: int) -> None:
        """Add the observer and the policies, behind all outputs."""
        self.observer = observer
        sizes = {"intra": channels, "inter": len(self.groups)}
        self.policies = nn.ModuleDict(
            {
                name: RecurrentGaussianPolicy(observer.sizes[name], sizes[name], iterations.hidden_size)
                for name in iterations.agents
                if name in AGENTS
            }
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize as nnU-Net does; nnU-Net applies this to every module."""
        initialize_as_nnunet(module)

    def agents_parameters(self) -> list[str]:
        """Return the names of the parameters that agents train, and the loss does not."""
        return [name for name, _ in self.named_parameters() if name.startswith("policies.") and not self.is_gated]

    @abstractmethod
    def _iterate(
        self, scene: Scene, weights: dict[str, Tensor], decide: bool
    ) -> tuple[IterationOutput | None, Tensor | None]:
        """Run one iteration; return its output (None unless `decide`) and the statistics of the own outputs."""

    def _result(self, last: IterationOutput) -> Any:
        """Return what a prediction is, by default the decision of the last iteration."""
        return last.decision

    def forward(self, x: Tensor) -> Any:
        """Return an `IntraInterOutput` of (B, M, *spatial) in training mode, in evaluation mode the prediction."""
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
        return self._result(outputs[-1])

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

    def _encode(self, scene: Scene, intra: Tensor) -> list[list[Tensor] | None]:
        """Return the maps of all stages of each modality's encoder, behind the weighted stems."""
        spatial = [1] * self.dimension
        return [
            None if stem is None else encoder(stem * take(intra, rows).view(len(rows), -1, *spatial).to(stem.dtype))
            for encoder, stem, rows in zip(self.encoders, scene.shallow, scene.samples, strict=True)
        ]
