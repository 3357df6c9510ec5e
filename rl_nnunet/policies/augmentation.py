"""The policy of augmentation: how often and how strongly each transform is applied, as factors of nnU-Net's own values.

A Gaussian with a mean and no context. There is one action an epoch: a policy of the state would have to learn from some
hundreds of them how all of its outputs depend on it, while means that are learnt all the time follow a training anyway.
Its standard deviation is fixed for the same reason.

An action u becomes the factor ``limit ** tanh(u)``, which is 1 for an action of 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def factors_of(action: Tensor, odds_limit: float, strength_limit: float) -> Tensor:
    """Return the factors of an action, (2, transforms) in float64: of the odds, and of the strengths.

    Parameters
    ----------
    action : Tensor
        Of shape (2 transforms,).
    odds_limit, strength_limit : float
        The largest factors, above 1; the smallest are their inverses.
    """
    limits = torch.tensor([[math.log(odds_limit)], [math.log(strength_limit)]], dtype=torch.float64)
    return (limits * action.double().view(2, -1).tanh()).exp()


def scale_odds(probability: float, factor: float) -> float:
    """Return the probability whose odds are those of another one times a factor; a factor of 1 changes no digit."""
    return probability * factor / (1 + probability * (factor - 1))


class AugmentationPolicy(nn.Module):
    """A Gaussian over actions, of which only the mean is learnt.

    Parameters
    ----------
    transforms : int
        Number of transforms; an action has two entries for each.
    deviation : float
        Standard deviation of every entry.
    """

    def __init__(self, transforms: int, deviation: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2 * transforms))
        self.deviation = deviation

    @torch.no_grad()
    def act(self) -> tuple[Tensor, Tensor]:
        """Draw an action, (1, 2 transforms), and return it with its log-probability in nats, (1,)."""
        action = self._gaussian().sample((1,))
        return action, self._gaussian().log_prob(action).sum(-1)

    def evaluate(self, context: dict[str, Tensor], action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of recorded actions, each (N,); `context` is empty."""
        gaussian = self._gaussian()
        return gaussian.log_prob(action).sum(-1), gaussian.entropy().sum().expand(len(action))

    def _gaussian(self) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mean, self.deviation)
