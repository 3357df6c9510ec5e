"""The intra- and the inter-modality agent in training: from iterations of a decision to transitions for PPO.

Zhu et al. (see `rl_nnunet.policies.gaussian`), section 2.3: iteration 0 decides with all weights 1, then the agents
propose weights T times. The reward of iteration t is ``r_t = p_t - p_t-1``, the increment of the probability that the
decision gives to the true label, and the agents maximize ``sum gamma^(t-1) r_t`` with gamma = 0.1. Both agents get the
same reward. An episode ends with iteration T.

In our rewards, p_t is that of drawn actions minus that of the mean ones on the same batch. The paper's p_t says more of
the patch than of the action. Two agents whose weights have a known best (32 channels, 4 modalities, one reward; samples
of different difficulty) fell short of it by this much after 40,000 iterations of a sample, two seeds each
(benchmarks/weight_agents.py, updates of 96 transitions):

=========================================  ==============  ===============
reward and exploration                     intra           inter
=========================================  ==============  ===============
p_t, both explore at once                  0.0014, 0.0018  0.0003, 0.0012
p_t, they explore in turns                 0.0025, 0.0016  0.0010, 0.0010
p_t(drawn) - p_t(mean), both at once       0.0006, 0.0006  0.0007, 0.0003
p_t(drawn) - p_t(mean), in turns           0.0005, 0.0008  0.0002, 0.0002
=========================================  ==============  ===============

The second pass is counted. With it, turns make little difference, and we do without them. The pass of the mean is run
anyway: the backbone is trained on the mean actions, those of a prediction, and never on what an agent tries.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.agents.agent import Agent, StepReport
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig
from rl_nnunet.agents.ppo_diagnostics import diagnostic_panels, diagnostics
from rl_nnunet.outputs import Episode
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy
from rl_nnunet.progress_plot import Panel, last

WEIGHT_PPO = PPOConfig(
    discount=0.1, weight_decay=1e-5, entropy_weight=0.0, transitions_per_update=48, minibatch_size=24
)
"""Discount and weight decay of section 2.3 and 3.1. The paper's learning rate, 1e-2, with updates of 64 transitions,
moved an agent of 32 channels by 7 nats and more an update under rewards that were noise; with ours it is 0.02
(benchmarks/weight_agents.py). There is no exploration bonus: the entropy of a Gaussian has no bound, so that a bonus
would widen it for ever where the rewards are small."""


@dataclass(frozen=True)
class WeightReport(StepReport):
    """What the weight agents learn from.

    Parameters
    ----------
    weights : dict of str to Tensor
        Mean weights of the last iteration by agent, (B, A), NaN where they have no effect.
    episodes : dict of str to Episode
        By agent; empty in steps in which they do not explore.
    gains : Tensor or None
        p_0 to p_T of every sample with the drawn actions minus those with the mean actions, (B, T + 1); None likewise.
    """

    weights: dict[str, Tensor]
    episodes: dict[str, Episode]
    gains: Tensor | None


class WeightAgent(Agent):
    """The agent that proposes one kind of weights.

    Parameters
    ----------
    name : str
        Of the agent, as in the network's output.
    policy : RecurrentGaussianPolicy
        It belongs to the network, and only PPO trains it.
    config : PPOConfig
        Of PPO.
    device : torch.device
        Of network, critic and buffers.
    """

    def __init__(self, name: str, policy: RecurrentGaussianPolicy, config: PPOConfig, device: torch.device) -> None:
        self.name = name
        self.policy = policy
        self.ppo = PPO(policy, Critic(policy.recurrent.input_size + 2).to(device), config)
        self.panels = (
            Panel("standard deviation of the agents' actions", "standard deviation", (f"exploration_{name}",), last),
            *diagnostic_panels(name),
        )

    def learn(self, report: WeightReport) -> dict[str, float | Tensor]:
        """Record one training step if the agents explored in it, and update the policy if enough are collected.

        Nothing is recorded where a probability is not finite: an overflow under mixed precision, whose step nnU-Net
        skips, too.
        """
        if report.gains is not None and report.gains.isfinite().all():
            _record(self.ppo, report.episodes[self.name], report.gains)
        update = self.ppo.update_if_ready()  # on every rank, whether it has explored or not
        deviation = self.policy.log_standard_deviation.detach().exp().mean()
        return {
            f"exploration_{self.name}": deviation,
            **self.describe_weights(report.weights[self.name]),
            **diagnostics(update, self.name),
        }

    @abstractmethod
    def describe_weights(self, weights: Tensor) -> dict[str, Tensor]:
        """Return what to log of the weights (B, A) of the last iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return critic, optimizers and buffer; the policy is part of the network's weights."""
        return self.ppo.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ppo.load_state_dict(state)


class IntraAgent(WeightAgent):
    """Weighs the channels behind the stems. Parameters are those of `WeightAgent` but the name."""

    def __init__(self, policy: RecurrentGaussianPolicy, config: PPOConfig, device: torch.device) -> None:
        super().__init__("intra", policy, config, device)
        title = "intra agent: standard deviation over the channels' weights"
        self.panels = (Panel(title, "weight", ("intra_spread",)), *self.panels)

    def describe_weights(self, weights: Tensor) -> dict[str, Tensor]:
        """Return how far the channels' weights differ, on average over the samples."""
        return {"intra_spread": weights.std(1).mean()}


class InterAgent(WeightAgent):
    """Weighs the modalities. Parameters are those of `WeightAgent`, with the modalities' names for its name."""

    def __init__(
        self, modalities: Sequence[str], policy: RecurrentGaussianPolicy, config: PPOConfig, device: torch.device
    ) -> None:
        super().__init__("inter", policy, config, device)
        self.keys = tuple(f"weight_{modality}" for modality in modalities)
        title = "inter agent: weight of each modality in the last iteration"
        self.panels = (Panel(title, "weight", self.keys), *self.panels)

    def describe_weights(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the weight of each modality, on average over the samples that have it."""
        return dict(zip(self.keys, weights.nanmean(0), strict=True))


def _record(agent: PPO, episode: Episode, gains: Tensor) -> None:
    """Record every iteration of every sample as a transition.

    The critic sees the observation, t / T and the gain so far. With the last, it can tell an increment that this action
    has earned from one that makes up for what the action before had lost.
    """
    observations = episode.observations.float()
    samples, steps, _ = observations.shape
    progress = torch.arange(steps, device=observations.device).expand(samples, -1) / steps
    states = torch.cat((observations, progress[..., None], gains[:, :-1, None]), dim=-1)
    rewards = gains.diff(dim=1)
    for step in range(steps):
        is_last = step == steps - 1
        agent.transitions.record(
            state=states[:, step],
            context={
                "observations": observations,
                "step": torch.full((samples,), step, device=states.device),
                "effective": episode.effective,
            },
            action=episode.actions[:, step],
            log_probability=episode.log_probabilities[:, step],
            reward=rewards[:, step],
            next_state=states[:, step if is_last else step + 1],
            terminal=torch.full((samples,), is_last, device=states.device),
        )
