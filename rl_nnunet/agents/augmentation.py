"""The agent that decides, once an epoch, how often and how strongly each transform of the augmentation is applied.

Qin et al. 2020 let an agent pick augmentation operations by the Dice that they lead to, Yang et al. 2019 let PPO decide
the parameters of the augmentation. Here, an action is a setting of the transforms that nnU-Net has anyway
(`rl_nnunet.policies.augmentation`), and is held for an epoch. The reward is the change of the validation score in that
epoch, the baseline the expected change (`rl_nnunet.agents.score_trend`); with a baseline, PPO asks no critic. What an
epoch's augmentation does to the score lies below the noise of its validation: updates are few and small, and pull the
policy back to nnU-Net's own values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.agents.agent import Agent, ValidationReport
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig
from rl_nnunet.agents.ppo_diagnostics import diagnostic_panels, diagnostics
from rl_nnunet.agents.score_trend import ScoreTrend
from rl_nnunet.policies.augmentation import AugmentationPolicy, factors_of, scale_odds
from rl_nnunet.progress_plot import Panel

AUGMENTATION_PPO = PPOConfig(
    transitions_per_update=8,
    minibatch_size=8,
    policy_learning_rate=3e-2,
    weight_decay=0.1,
    entropy_weight=0.0,
)
"""An update every eight epochs. The weight decay pulls the mean back to 0, nnU-Net's own values: without it, the noise
of the validations adds up over a training."""
DIAGNOSTICS = tuple(panel._replace(reduction=None) for panel in diagnostic_panels("augmentation"))


@dataclass(frozen=True)
class AugmentationConfig:
    """How the agent of the augmentation acts and learns.

    Parameters
    ----------
    warmup_share : float
        Share of the epochs that are trained with nnU-Net's own values, in [0, 1); the first epoch always is. The score
        rises steeply then, and the trend has to be found.
    odds_limit : float
        Largest factor of the odds of a transform being applied, and inverse of the smallest; above 1. With 10, a
        probability of 0.2 can become 0.024 to 0.71.
    strength_limit : float
        The same of the strength (see `rl_nnunet.dataloading.adjustable_augmentation`); with 2, rotations by up to 30
        degrees can become such by up to 15 to 60.
    deviation : float
        Standard deviation of the action's entries; positive. With 0.5, most odds are drawn within a factor of 3.
    level_weight : float
        Weight of a new score in the level of the expected score, in (0, 1].
    trend_weight : float
        Weight of a new level in its trend, in [0, 1].
    ppo : PPOConfig
        Of the policy.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    warmup_share: float = 0.1
    odds_limit: float = 10.0
    strength_limit: float = 2.0
    deviation: float = 0.5
    level_weight: float = 0.3
    trend_weight: float = 0.1
    ppo: PPOConfig = AUGMENTATION_PPO

    def __post_init__(self) -> None:
        """Check the ranges."""
        in_range = {
            "warmup_share": 0 <= self.warmup_share < 1,
            "odds_limit": 1 < self.odds_limit < math.inf,
            "strength_limit": 1 < self.strength_limit < math.inf,
            "deviation": 0 < self.deviation < math.inf,
            "level_weight": 0 < self.level_weight <= 1,
            "trend_weight": 0 <= self.trend_weight <= 1,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"AugmentationConfig: {name} is out of range: {getattr(self, name)}.")


class AugmentationAgent(Agent):
    """Sets the augmentation of the next epoch by what that of the epochs before has led to.

    It lives on the CPU, whatever device the network is on.

    Parameters
    ----------
    planned : mapping of str to float
        nnU-Net's own probability of each transform, by the transform's name.
    config : AugmentationConfig
        How it acts and learns.

    Attributes
    ----------
    factors : Tensor
        The present setting, (2, transforms), float64, in shared memory: by what the odds and the strength of each
        transform are multiplied; all 1 to begin with.
    """

    def __init__(self, planned: Mapping[str, float], config: AugmentationConfig) -> None:
        self.planned = dict(planned)
        self.config = config
        self.policy = AugmentationPolicy(len(self.planned), config.deviation)
        self.ppo = PPO(self.policy, Critic(1), config.ppo, collects_alike=True)
        self.trend = ScoreTrend(config.level_weight, config.trend_weight)
        self.factors = torch.ones(2, len(self.planned), dtype=torch.float64).share_memory_()
        self._drawn: tuple[Tensor, Tensor] | None = None
        self.panels = (
            *self._panels("augmentation in the epoch", ""),
            *self._panels("augmentation by the mean of the policy", "mean_"),
            Panel(
                "augmentation: reward of the epoch",
                "change of the validation score",
                ("augmentation_reward", "augmentation_expected"),
                None,
            ),
            *DIAGNOSTICS,
        )

    def _panels(self, title: str, prefix: str) -> tuple[Panel, Panel]:
        probabilities, strengths = (
            tuple(f"augmentation_{prefix}{kind}_{name}" for name in self.planned)
            for kind in ("probability", "strength")
        )
        return (
            Panel(f"{title}: probability of each transform", "probability", probabilities, None),
            Panel(f"{title}: strength of each transform", "nnU-Net's own is 1", strengths, None),
        )

    def learn_from_validation(self, report: ValidationReport) -> dict[str, float]:
        """Reward the setting of the epoch that is over, learn if enough are collected, and draw the next one."""
        reward, expected = report.score - self.trend.last, self.trend.expected_change
        logs = {
            **self._describe(self.factors, ""),
            "augmentation_reward": reward,
            "augmentation_expected": expected,
            **{key: math.nan for panel in DIAGNOSTICS for key in panel.keys},
        }
        if self._drawn is not None and not math.isnan(reward):
            self._record(*self._drawn, reward, expected)
            logs |= diagnostics(self.ppo.update_if_ready(), "augmentation")
        if not math.isnan(report.score):
            self.trend.update(report.score)
        self._drawn = None if report.progress < self.config.warmup_share else self.policy.act()
        self._apply()
        return {**logs, **self._describe(self._factors_of(self.policy.mean.detach()), "mean_")}

    def _record(self, action: Tensor, log_probability: Tensor, reward: float, expected: float) -> None:
        stateless = torch.zeros(1, 1)  # the policy sees nothing, and nobody asks the critic
        self.ppo.transitions.record(
            state=stateless,
            context={},
            action=action,
            log_probability=log_probability,
            reward=torch.tensor([reward]),
            next_state=stateless,
            baseline=torch.tensor([expected]),
        )

    def _apply(self) -> None:
        """Hand the setting to the processes that augment."""
        own = torch.zeros_like(self.policy.mean)
        self.factors.copy_(self._factors_of(own if self._drawn is None else self._drawn[0][0]))

    def _factors_of(self, action: Tensor) -> Tensor:
        return factors_of(action, self.config.odds_limit, self.config.strength_limit)

    def _describe(self, factors: Tensor, prefix: str) -> dict[str, float]:
        """Return probabilities and strengths by log key."""
        odds, strengths = factors.tolist()
        own = self.planned.values()
        probabilities = [scale_odds(probability, factor) for probability, factor in zip(own, odds, strict=True)]
        return {
            f"augmentation_{prefix}{kind}_{name}": value
            for kind, values in (("probability", probabilities), ("strength", strengths))
            for name, value in zip(self.planned, values, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """Return policy, PPO's state, the trend, and the action of the epoch that is to come."""
        return {
            "policy": self.policy.state_dict(),
            "ppo": self.ppo.state_dict(),
            "trend": self.trend.state_dict(),
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, and the setting with it."""
        self.policy.load_state_dict(state["policy"])
        self.ppo.load_state_dict(state["ppo"])
        self.trend.load_state_dict(state["trend"])
        drawn = state["drawn"]
        self._drawn = None if drawn is None else (drawn[0].cpu(), drawn[1].cpu())
        self._apply()
