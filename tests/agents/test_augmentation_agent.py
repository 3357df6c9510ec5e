"""The agent of the augmentation: what it records and logs, and on toys with a known answer what it learns."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from rl_nnunet.agents.agent import ValidationReport
from rl_nnunet.agents.augmentation import AUGMENTATION_PPO, AugmentationAgent, AugmentationConfig
from rl_nnunet.policies.augmentation import factors_of, scale_odds

PLANNED = {
    "rotation": 0.2, "scaling": 0.2, "noise": 0.1, "blur": 0.2, "brightness": 0.15, "contrast": 0.15,
    "low_resolution": 0.25, "inverted_gamma": 0.1, "gamma": 0.3,
}  # fmt: skip
NOISE = list(PLANNED).index("noise")
AT_ONCE = AugmentationConfig(warmup_share=0.0)


def make_agent(config=AT_ONCE, planned=PLANNED):
    torch.manual_seed(0)
    return AugmentationAgent(planned, config)


def is_own(agent):
    return torch.equal(agent.factors, torch.ones_like(agent.factors))


def test_a_setting_is_rewarded_by_the_change_of_the_score_in_its_epoch():
    agent = make_agent()
    assert agent.factors.is_shared()
    assert is_own(agent)
    first = agent.learn_from_validation(ValidationReport(0.5, 0.0))
    assert math.isnan(first["augmentation_reward"])
    assert first["augmentation_probability_noise"] == 0.1
    assert first["augmentation_strength_noise"] == 1
    assert len(agent.ppo) == 0  # nothing was drawn for the first epoch
    setting = agent.factors.clone()
    assert not (setting == 1).any()
    second = agent.learn_from_validation(ValidationReport(0.6, 0.1))
    assert second["augmentation_reward"] == pytest.approx(0.1)
    assert second["augmentation_expected"] == 0
    assert second["augmentation_probability_noise"] == scale_odds(0.1, setting[0, NOISE].item())
    assert second["augmentation_strength_gamma"] == setting[1, -1].item()
    batch = agent.ppo.transitions.take_all()
    assert batch["reward"] == pytest.approx(0.1)
    assert batch["baseline"] == pytest.approx(0)
    torch.testing.assert_close(factors_of(batch["action"][0], 10.0, 2.0), setting)
    assert not torch.equal(agent.factors, setting)


def test_what_is_logged_is_what_is_drawn():
    agent = make_agent()
    keys = {key for panel in agent.panels for key in panel.keys}
    assert all(panel.reduction is None for panel in agent.panels)
    for epoch in range(12):
        logs = agent.learn_from_validation(ValidationReport(0.01 * epoch**2, epoch / 12))
        assert logs.keys() == keys
        # The ninth validation is the first that ends eight settings, those of epochs 1 to 8.
        assert math.isnan(logs["approximate_kl_augmentation"]) == (epoch != 8)
    assert logs["augmentation_mean_probability_noise"] != 0.1


def test_the_first_epochs_are_trained_with_nnunets_own_values():
    agent = make_agent(AugmentationConfig(warmup_share=0.25))
    own = []
    for epoch in range(8):
        own.append(is_own(agent))
        agent.learn_from_validation(ValidationReport(0.1 * epoch, epoch / 8))
    assert own == [True] * 3 + [False] * 5
    assert len(agent.ppo) == 5
    assert agent.trend.last == pytest.approx(0.7)  # the trend is learnt meanwhile


def test_an_epoch_that_cannot_be_judged_is_left_out():
    agent = make_agent()
    for epoch, score in enumerate((0.5, 0.6, math.nan, 0.7)):
        logs = agent.learn_from_validation(ValidationReport(score, epoch / 8))
    assert len(agent.ppo) == 2
    assert logs["augmentation_reward"] == pytest.approx(0.1)


@pytest.mark.parametrize("epochs", [0, 3, 11])
def test_it_goes_on_from_its_state(epochs):
    """Before the first epoch, with a buffer that is filling, and after an update."""
    agent, resumed = make_agent(), make_agent()
    for epoch in range(epochs):
        agent.learn_from_validation(ValidationReport(0.5 + 0.1 * math.sin(epoch), epoch / 30))
    resumed.load_state_dict(deepcopy(agent.state_dict()))
    assert torch.equal(resumed.factors, agent.factors)
    assert resumed.factors.is_shared()
    for each in (agent, resumed):
        torch.manual_seed(5)
        each.logs = [
            each.learn_from_validation(ValidationReport(0.5 + 0.1 * math.sin(epoch), epoch / 30))
            for epoch in range(epochs, epochs + 10)
        ]
    torch.testing.assert_close(resumed.logs, agent.logs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(resumed.policy.mean, agent.policy.mean)


def train(seed, harm, epochs, config=AT_ONCE, noise=0.01):
    """Train in the place of a network; return the policy's mean factors of odds and strengths.

    The score rises towards 0.8 and flattens, and each epoch lowers it by `harm` times the logarithm of what the odds of
    noise are multiplied by. Validations have a standard deviation of `noise`.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    agent = AugmentationAgent(PLANNED, config)
    score = 0.0
    for epoch in range(epochs):
        score += 0.03 * (0.8 - score) - harm * agent.factors[0, NOISE].log().item()
        measured = score + noise * torch.randn((), generator=generator).item()
        agent.learn_from_validation(ValidationReport(measured, epoch / epochs))
    return factors_of(agent.policy.mean.detach(), config.odds_limit, config.strength_limit)


@pytest.mark.parametrize("seed", range(3))
def test_what_harms_the_score_becomes_rarer(seed):
    odds, strengths = train(seed, harm=0.01, epochs=150)
    assert odds[NOISE] < 0.5
    others = torch.cat((odds[:NOISE], odds[NOISE + 1 :], strengths)).log()
    assert others.square().mean().sqrt() < 0.5


def test_rewards_of_noise_do_not_carry_the_policy_away():
    odds, strengths = train(0, harm=0.0, epochs=250)
    assert odds.log().square().mean().sqrt() < 0.6
    assert strengths.log().square().mean().sqrt() < 0.2


@pytest.mark.slow
def test_the_figures_of_the_documentation():
    """docs/augmentation_policy.md: 12 seeds each of 300 epochs."""
    free = replace(AT_ONCE, ppo=replace(AUGMENTATION_PPO, weight_decay=0.0))
    changes = replace(AT_ONCE, level_weight=1.0, trend_weight=0.0)
    rows = {"harm": (0.003, AT_ONCE), "change": (0.003, changes), "none": (0.0, AT_ONCE), "free": (0.0, free)}
    for name, (harm, config) in rows.items():
        settings = [train(seed, harm, 300, config) for seed in range(12)]
        odds = torch.stack([odds for odds, _ in settings])
        others = torch.cat((odds[:, :NOISE], odds[:, NOISE + 1 :]), 1).log().square().mean().sqrt().exp()
        harmful = odds[:, NOISE].sort().values
        middle = harmful.log().mean().exp()
        print(f"{name}: noise {middle:.2f} ({harmful[0]:.2f} to {harmful[-1]:.2f}), others {others:.2f}")
        if name == "harm":
            assert (harmful < 1).sum() >= 11
            assert middle < 0.5
        if name == "none":
            assert others < 1.7


@pytest.mark.parametrize(
    "value",
    [
        {"warmup_share": 1.0}, {"warmup_share": -0.1}, {"odds_limit": 1.0}, {"strength_limit": math.inf},
        {"deviation": 0.0}, {"level_weight": 0.0}, {"trend_weight": 1.5},
    ],
)  # fmt: skip
def test_ranges(value):
    (name,) = value
    with pytest.raises(ValueError, match=f"AugmentationConfig: {name} is out of range"):
        AugmentationConfig(**value)
