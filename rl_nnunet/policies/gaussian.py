"""The recurrent Gaussian policy of the intra- and the inter-modality agent.

Zhu et al., "Reinforcement Learning Driven Intra-modal and Inter-modal Representation Learning for 3D Medical Image
Classification", sections 2.2 and 3.1: an agent is a recurrent network followed by a fully connected layer, with as
many outputs as it has weights to propose (c channels, or M modalities). Its hidden state collects what it has seen in
the iterations before.

The paper states neither the distribution nor the range of the weights. Ours: the outputs are the means of a Gaussian
with a learnt standard deviation, and an action u becomes the weight ``2 sigmoid(u)``, between 0 and 2. The means
start at 0, hence the weights around 1, which is what the paper's first iteration has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INITIAL_STANDARD_DEVIATION = 0.5
"""Of the action; the weights of a new agent lie between 0.5 and 1.5 most of the time."""


def weights_of(action: Tensor) -> Tensor:
    """Return the enhancement weights, in (0, 2), of actions of any shape; 1 for an action of 0."""
    return 2 * torch.sigmoid(action)


class RecurrentGaussianPolicy(nn.Module):
    """A Gaussian over actions whose mean follows from everything observed so far.

    Parameters
    ----------
    observation_size : int
        Entries of an observation, each of about zero mean and unit variance.
    action_size : int
        Entries of an action.
    hidden_size : int
        Entries of the hidden state; the paper states none.
    """

    def __init__(self, observation_size: int, action_size: int, hidden_size: int = 64) -> None:
        super().__init__()
        self.recurrent = nn.GRU(observation_size, hidden_size, batch_first=True)
        self.mean = nn.Linear(hidden_size, action_size)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.mean.bias)
        self.log_standard_deviation = nn.Parameter(torch.full((action_size,), math.log(INITIAL_STANDARD_DEVIATION)))

    def act(self, observations: Tensor, effective: Tensor, most_probable: bool) -> tuple[Tensor, Tensor]:
        """Act on the last of some observations.

        Parameters
        ----------
        observations : Tensor
            All observations of an episode so far, (B, t + 1, S).
        effective : Tensor
            Which entries of the action have an effect, booleans (B, A): the weight of an absent modality has none. In
            the log-probability, it would be noise in the ratio of PPO.
        most_probable : bool
            Return the mean and do not draw, so that a prediction is repeatable.

        Returns
        -------
        action : Tensor
            (B, A); 0 where it has no effect.
        log_probability : Tensor
            Of the entries that have an effect, in nats, (B,).
        """
        with torch.autocast(observations.device.type, enabled=False):
            gaussian = self._gaussian(self._means(observations.float())[:, -1])
            action = gaussian.mean if most_probable else gaussian.sample()
            return action * effective, (gaussian.log_prob(action) * effective).sum(-1)

    def evaluate(self, context: dict[str, Tensor], action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of recorded actions, each (N,), with gradient through all observations.

        Both are those of the entries that have an effect.

        Parameters
        ----------
        context : dict of str to Tensor
            ``observations``, those of the whole episode, (N, T, S); ``step``, integers (N,): the action was taken
            after observation number `step`, so that later ones have no influence; ``effective``, see `act`.
        action : Tensor
            (N, A).
        """
        means = self._means(context["observations"])
        gaussian = self._gaussian(means[torch.arange(len(action), device=means.device), context["step"]])
        effective = context["effective"]
        return (gaussian.log_prob(action) * effective).sum(-1), (gaussian.entropy() * effective).sum(-1)

    def _means(self, observations: Tensor) -> Tensor:
        """Return the mean action after each observation, (B, T, A)."""
        hidden, _ = self.recurrent(observations)
        return self.mean(hidden)

    def _gaussian(self, mean: Tensor) -> torch.distributions.Normal:
        # Not validated: an overflow under mixed precision must reach the loss as NaN, whose step nnU-Net skips.
        deviation = self.log_standard_deviation.exp().expand_as(mean)
        return torch.distributions.Normal(mean, deviation, validate_args=False)
