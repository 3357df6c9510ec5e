"""The loss-weight agent: weighs the branches' losses by what the validation makes of it.

Jian Wang et al. 2020 (four kinds of ultrasound images, a loss each), as the review of reinforcement learning in medical
imaging tells it (section "Optimal sample/weight/ROI selection"): the weights of the losses are the state; in each step,
an agent trained with REINFORCE adds -0.2, 0 or +0.2 to every weight.

Where the review is silent, we chose:

- A step is an epoch: nnU-Net validates once in each, and a weight needs some iterations to have an effect. The reward
  of an action is the change of the validation score (mean pseudo Dice of the branches alone) from the end of the epoch
  before it to the end of the epoch that it weighed.
- Every learning curve rises and flattens, whatever the weights are. The baseline is a running mean of the rewards,
  and the advantage is divided by its running root mean square, lest the policy's steps vanish with the curve.
- The policy is a perceptron that sees every branch's weight and the distance of its score from the mean of all, and
  the progress of the training.
- After each step, the weights are clipped to a range and scaled to a mean of 1, as AGWD's are
  (`rl_nnunet.losses.adaptive_weights`, whose interface this is): a weight of all losses would be a learning rate, and
  weights that drift together end at the limits, where no action has an effect.

There are as many rewards as epochs: this is for trainings of hundreds of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl_nnunet.agents.agent import Agent, ValidationReport
from rl_nnunet.progress_plot import Panel

DIRECTIONS = torch.tensor([-1.0, 0.0, 1.0])
"""Of a step of a weight."""
SCORE_SCALE = 10.0
"""Scores of branches differ by some hundredths; the perceptron's other inputs are of the size of one."""
TINY = 1e-8


@dataclass(frozen=True)
class LossWeightConfig:
    """How the loss-weight agent acts and learns.

    Parameters
    ----------
    step : float
        By how much a weight moves in an epoch; positive. 0.2 in the paper.
    smallest, largest : float
        Range of the weights after a step, before they are scaled to a mean of 1; positive, with 1 between them.
    learning_rate : float
        Of the policy's Adam; positive.
    momentum : float
        Of the running mean and mean square of the rewards, in [0, 1).
    hidden_size : int
        Units of the policy's hidden layer; at least 1.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    step: float = 0.2
    smallest: float = 0.2
    largest: float = 2.0
    learning_rate: float = 1e-2
    momentum: float = 0.9
    hidden_size: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        in_range = {
            "step": self.step > 0,
            "smallest": 0 < self.smallest <= 1,
            "largest": self.largest >= 1,
            "learning_rate": self.learning_rate > 0,
            "momentum": 0 <= self.momentum < 1,
            "hidden_size": self.hidden_size >= 1,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"LossWeightConfig: {name} is out of range: {getattr(self, name)}.")


class LossWeightAgent(Agent):
    """Moves the weights at the end of every epoch, and learns from what the next epoch makes of it.

    Parameters
    ----------
    names : sequence of str
        Of the branches.
    config : LossWeightConfig, optional
        Hyperparameters.

    Attributes
    ----------
    policy : nn.Module
        Maps an observation, (2 branches + 1), to logits of the `DIRECTIONS` for every branch, (3 branches).
    """

    panels = (
        Panel("loss-weight agent", "change of the pseudo Dice", ("loss_weight_reward", "loss_weight_baseline"), None),
    )

    def __init__(self, names: Sequence[str], config: LossWeightConfig | None = None) -> None:
        self.names = tuple(names)
        self.config = config or LossWeightConfig()
        self.policy = nn.Sequential(
            nn.Linear(2 * len(self.names) + 1, self.config.hidden_size),
            nn.Tanh(),
            nn.Linear(self.config.hidden_size, 3 * len(self.names)),
        )
        nn.init.zeros_(self.policy[-1].weight)  # all three are equally probable at first
        nn.init.zeros_(self.policy[-1].bias)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.config.learning_rate)
        self._weights = torch.ones(len(self.names))
        self._score = math.nan
        self._action: dict[str, Tensor] | None = None
        self._rewards, self._mean, self._mean_square = 0, 0.0, 0.0

    def update(self, losses: dict[int, float | Tensor]) -> Tensor:
        """Return the weight of every branch's loss, (branches,), of mean 1; whatever the losses of the step are."""
        return self._weights

    def learn_from_validation(self, report: ValidationReport) -> dict[str, float]:
        """Learn from the last action, whose reward is known now, and take the next one."""
        scores = torch.tensor([report.branch_scores[name] for name in self.names])
        score, baseline = scores.nanmean().item(), self._baseline
        reward = score - self._score
        if math.isfinite(reward):
            self._reinforce(reward)
        if math.isfinite(score):
            self._score = score
        self._act(scores, report.progress)
        return {"loss_weight_reward": reward, "loss_weight_baseline": baseline}

    @property
    def _baseline(self) -> float:
        """The running mean of the rewards; without the bias of its start at 0, as Adam's means are."""
        return self._mean / (1 - self.config.momentum**self._rewards) if self._rewards else math.nan

    def _reinforce(self, reward: float) -> None:
        """Take one step along the gradient of the expected reward; none from the first one, which has no baseline."""
        momentum, baseline = self.config.momentum, self._baseline
        self._rewards += 1
        self._mean = momentum * self._mean + (1 - momentum) * reward
        if math.isnan(baseline) or self._action is None:
            return
        advantage = reward - baseline
        self._mean_square = momentum * self._mean_square + (1 - momentum) * advantage**2
        spread = math.sqrt(self._mean_square / (1 - momentum ** (self._rewards - 1)))
        with torch.enable_grad():  # nnU-Net validates without gradients
            log_probability = self._distribution(self._action["observation"]).log_prob(self._action["choice"]).sum()
            self._optimizer.zero_grad()
            (-advantage / (spread + TINY) * log_probability).backward()
        self._optimizer.step()

    @torch.no_grad()
    def _act(self, scores: Tensor, progress: float) -> None:
        config = self.config
        distances = SCORE_SCALE * (scores - scores.nanmean()).nan_to_num()
        observation = torch.cat([self._weights - 1, distances, torch.tensor([progress])])
        choice = self._distribution(observation).sample()
        self._action = {"observation": observation, "choice": choice}
        moved = (self._weights + config.step * DIRECTIONS[choice]).clamp(config.smallest, config.largest)
        self._weights = moved / moved.mean()

    def _distribution(self, observation: Tensor) -> torch.distributions.Categorical:
        return torch.distributions.Categorical(logits=self.policy(observation).unflatten(-1, (-1, 3)))

    def state_dict(self) -> dict[str, Any]:
        """Return policy, optimizer, weights, the last action and the running means."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "weights": self._weights,
            "score": self._score,
            "action": self._action,
            "rewards": self._rewards,
            "mean": self._mean,
            "mean_square": self._mean_square,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._weights = state["weights"].cpu()
        self._score, self._rewards = state["score"], state["rewards"]
        self._mean, self._mean_square = state["mean"], state["mean_square"]
        action = state["action"]
        self._action = action and {name: value.cpu() for name, value in action.items()}
