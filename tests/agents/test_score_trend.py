"""The expected score against closed forms of exponential smoothing."""

import math

import numpy as np
import pytest

from rl_nnunet.agents.score_trend import ScoreTrend


def errors(trend, scores):
    """By how much each score but the first differs from what was expected."""
    found = []
    for score in scores:
        found.append(score - trend.last - trend.expected_change)
        trend.update(score)
    return np.array(found[1:])


def test_nothing_is_expected_before_the_first_score():
    trend = ScoreTrend(0.3, 0.1)
    assert math.isnan(trend.expected_change)
    trend.update(0.5)
    assert trend.expected_change == 0


def test_by_hand():
    trend = ScoreTrend(0.5, 0.25)
    for score in (0.0, 0.4):
        trend.update(score)
    assert trend.level == pytest.approx(0.2)
    assert trend.trend == pytest.approx(0.05)
    assert trend.expected_change == pytest.approx(0.2 + 0.05 - 0.4)


def test_a_straight_line_is_foreseen():
    found = errors(ScoreTrend(0.3, 0.1), np.linspace(0, 0.5, 200))
    assert abs(found[-1]) < 1e-6
    assert found[0] == pytest.approx(0.5 / 199)


def test_noise_around_a_level_costs_little_more_than_itself():
    """The error has 2 / (2 - weight) times the variance of the noise; the change from one score to the next twice."""
    noise = np.random.default_rng(0).normal(0, 1, 20_000)
    assert errors(ScoreTrend(0.3, 0.0), noise).var() == pytest.approx(2 / 1.7, rel=0.03)
    assert errors(ScoreTrend(0.3, 0.1), noise).var() == pytest.approx(1.25, rel=0.03)
    assert np.diff(noise).var() == pytest.approx(2, rel=0.03)
    assert errors(ScoreTrend(1.0, 0.0), noise) == pytest.approx(np.diff(noise))


def test_it_goes_on_from_its_state():
    scores = np.random.default_rng(1).random(20)
    whole, first, second = (ScoreTrend(0.3, 0.1) for _ in range(3))
    expected = errors(whole, scores)
    errors(first, scores[:10])
    second.load_state_dict(first.state_dict())
    assert np.array_equal(errors(second, scores[10:]), expected[10:])
