"""The intra- and the inter-modality agent in training: from iterations of a decision to transitions for PPO.

Zhang et al. (see `rl_nnunet.agents.gaussian_policy`), section 2.3: iteration 0 decides with all weights 1, then the
agents propose weights T times. The reward of iteration t is ``r_t = p_t - p_t-1``, the increment of the probability
that the decision gives to the true label, and the agents maximize ``sum gamma^(t-1) r_t`` with gamma = 0.1. Both agents
get the same reward. An episode ends with iteration T.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_nnunet.agents.gaussian_policy import RecurrentGaussianPolicy
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig

PAPER_PPO = PPOConfig(
    discount=0.1, policy_learning_rate=1e-2, critic_learning_rate=1e-2, weight_decay=1e-5, entropy_weight=0.0
)
"""Discount, learning rates and weight decay of section 2.3 and 3.1. There is no exploration bonus: the entropy of a
Gaussian has no bound, so that a bonus would widen it for ever where the rewards are small."""


class Episode(NamedTuple):
    """What one agent saw and did in one forward pass.

    Attributes
    ----------
    observations : Tensor
        (B, T, S).
    actions : Tensor
        (B, T, A); `rl_nnunet.agents.gaussian_policy.weights_of` makes weights of them.
    log_probabilities : Tensor
        (B, T).
    """

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor


class WeightAgents:
    """The agents of a network, by name (``intra``, ``inter``).

    Parameters
    ----------
    policies : dict of str to RecurrentGaussianPolicy
        They belong to the network, and only PPO trains them.
    config : PPOConfig
        Of every agent.
    device : torch.device
        Of network, critics and buffers.
    """

    def __init__(self, policies: dict[str, RecurrentGaussianPolicy], config: PPOConfig, device: torch.device) -> None:
        self.agents = {
            name: PPO(policy, Critic(policy.recurrent.input_size + 2).to(device), config)
            for name, policy in policies.items()
        }

    def learn(self, episodes: dict[str, Episode], probabilities: Tensor) -> None:
        """Record one training step, and update each agent that has collected enough.

        Parameters
        ----------
        episodes : dict of str to Episode
            One per agent.
        probabilities : Tensor
            p_0 to p_T of every sample, (B, T + 1). Nothing is recorded where one is not finite: an overflow under
            mixed precision, whose step nnU-Net skips, too.
        """
        if not probabilities.isfinite().all():
            return
        for name, agent in self.agents.items():
            _record(agent, episodes[name], probabilities)
            agent.update_if_ready()

    def state_dict(self) -> dict[str, Any]:
        """Return critics, optimizers and buffers; the policies are part of the network's weights."""
        return {name: agent.state_dict() for name, agent in self.agents.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, agent in self.agents.items():
            agent.load_state_dict(state[name])


def _record(agent: PPO, episode: Episode, probabilities: Tensor) -> None:
    """Record every iteration of every sample as a transition.

    The critic sees the observation, t / T and p_t - p_0. With the last, it can tell an increment that this action has
    earned from one that makes up for what the action before had lost.
    """
    observations = episode.observations.float()
    samples, steps, _ = observations.shape
    progress = torch.arange(steps, device=observations.device).expand(samples, -1) / steps
    gain = probabilities[:, :-1] - probabilities[:, :1]
    normalized = torch.nn.functional.layer_norm(observations, observations.shape[-1:])
    states = torch.cat((normalized, progress[..., None], gain[..., None]), dim=-1)
    rewards = probabilities.diff(dim=1)
    for step in range(steps):
        is_last = step == steps - 1
        agent.record(
            state=states[:, step],
            context={"observations": observations, "step": torch.full((samples,), step, device=states.device)},
            action=episode.actions[:, step],
            log_probability=episode.log_probabilities[:, step],
            reward=rewards[:, step],
            next_state=states[:, step if is_last else step + 1],
            terminal=torch.full((samples,), is_last, device=states.device),
        )
