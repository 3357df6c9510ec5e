"""What the validation score of the next epoch is to be expected to be, by those before.

Holt's linear exponential smoothing: a level and a trend, each a moving average. The expected change is the baseline of
agents that are rewarded by the change of the score. That change falls over a training as its curve flattens, and it has
the noise of two validations in it: a score that was low by chance is followed by a rise, whatever an agent did. What is
expected is known before the agent acts, so that to subtract it favors no action.
"""

from __future__ import annotations

import math


class ScoreTrend:
    """Level and trend of the scores so far.

    Parameters
    ----------
    level_weight, trend_weight : float
        Of what is new in the moving averages, in (0, 1] and [0, 1].

    Attributes
    ----------
    last, level, trend : float
        The last score, and the averages; NaN before the first score, but for the trend.
    """

    def __init__(self, level_weight: float, trend_weight: float) -> None:
        self.level_weight = level_weight
        self.trend_weight = trend_weight
        self.last = self.level = math.nan
        self.trend = 0.0

    @property
    def expected_change(self) -> float:
        """By how much the next score is expected to differ from the last one; NaN before the first."""
        return self.level + self.trend - self.last

    def update(self, score: float) -> None:
        """Take in a score."""
        if math.isnan(self.last):
            self.last = self.level = score
            return
        expected = self.level + self.trend
        level = expected + self.level_weight * (score - expected)
        self.trend += self.trend_weight * (level - self.level - self.trend)
        self.last, self.level = score, level

    def state_dict(self) -> dict[str, float]:
        """Return the attributes."""
        return {"last": self.last, "level": self.level, "trend": self.trend}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self.last, self.level, self.trend = state["last"], state["level"], state["trend"]
