"""How far an update moves a policy: against the closed form of the divergence, under rewards of noise and of none."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig, approximate_kl

CONFIG = PPOConfig(transitions_per_update=96, minibatch_size=48, entropy_weight=0.0)


class GaussianPolicy(nn.Module):
    """A Gaussian whose mean is that of a network with one hidden layer."""

    def __init__(self, actions: int):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, actions))
        nn.init.zeros_(self.mean[-1].weight)
        nn.init.zeros_(self.mean[-1].bias)
        self.log_deviation = nn.Parameter(torch.full((actions,), math.log(0.5)))

    def distribution(self, seen):
        return Normal(self.mean(seen), self.log_deviation.exp().expand(len(seen), -1))

    def evaluate(self, context, action):
        distribution = self.distribution(context["seen"])
        return distribution.log_prob(action).sum(-1), distribution.entropy().sum(-1)


@torch.no_grad()
def update(ppo: PPO, reward_of) -> tuple[float, dict[str, float]]:
    """Play one buffer; return the exact divergence of the new policy from the old one, and the update's metrics."""
    old, n = copy.deepcopy(ppo.policy), ppo.config.transitions_per_update
    seen = torch.ones(n, 8) + 0.3 * torch.randn(n, 8)
    action = old.distribution(seen).sample()
    log_probability = old.evaluate({"seen": seen}, action)[0]
    state = seen[:, :3]
    ppo.transitions.record(state, {"seen": seen}, action, log_probability, reward_of(action), state)
    metrics = ppo.update_if_ready()
    divergence = kl_divergence(old.distribution(seen), ppo.policy.distribution(seen)).sum(-1).mean()
    return divergence.item(), metrics


def noise(spread):
    return lambda action: spread * torch.randn(len(action))


def test_estimate_of_the_divergence_is_unbiased():
    torch.manual_seed(0)
    old, new = Normal(torch.zeros(200_000), 1.0), Normal(torch.tensor(0.3), 1.2)
    action = old.sample()
    estimate = approximate_kl(new.log_prob(action), old.log_prob(action))
    assert (estimate >= -1e-6).all()
    assert estimate.mean().item() == pytest.approx(kl_divergence(Normal(0.0, 1.0), new).item(), rel=0.02)


@pytest.mark.parametrize("learning_rate", [1e-3, 3e-3, 1e-2])
def test_noise_does_not_throw_a_policy_of_many_actions(learning_rate):
    torch.manual_seed(0)
    config = replace(CONFIG, policy_learning_rate=learning_rate)
    ppo = PPO(GaussianPolicy(32), Critic(), config)
    moved = [update(ppo, noise(0.01)) for _ in range(6)]
    assert max(divergence for divergence, _ in moved) < 0.05
    for divergence, metrics in moved:
        assert metrics["approximate_kl"] == pytest.approx(divergence, rel=0.6)
    unlimited = PPO(GaussianPolicy(32), Critic(), replace(config, target_kl=math.inf))
    assert update(unlimited, noise(0.01))[0] > 2 * max(divergence for divergence, _ in moved)


def test_the_last_step_of_an_update_ends_at_the_target():
    """One minibatch: the estimate on all transitions is that on which the step was cut."""
    torch.manual_seed(0)
    config = replace(CONFIG, minibatch_size=96, policy_learning_rate=1e-2)
    _, metrics = update(PPO(GaussianPolicy(32), Critic(), config), noise(0.01))
    assert metrics["steps"] == 1
    assert metrics["approximate_kl"] == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-5])
def test_rewards_without_a_spread_do_not_move_the_policy(spread):
    torch.manual_seed(0)
    ppo = PPO(GaussianPolicy(8), Critic(), CONFIG)
    assert update(ppo, noise(spread))[0] < 1e-3
    full_size = PPO(GaussianPolicy(8), Critic(), replace(CONFIG, smallest_spread=0.0, target_kl=math.inf))
    if spread:
        assert update(full_size, noise(spread))[0] > 0.01


def test_steps_shrink_with_the_spread_below_the_smallest():
    """One step of Adam, whatever the scale of the gradient, is as long as the learning rate."""
    config = replace(CONFIG, minibatch_size=96, epochs=1, target_kl=math.inf, max_gradient_norm=100.0)
    moved = []
    for spread in (1.0, 1e-4):
        torch.manual_seed(0)
        ppo = PPO(GaussianPolicy(8), Critic(), config)
        update(ppo, noise(spread))
        moved.append(ppo.policy.mean[-1].bias.abs().max().item())
    assert moved[0] == pytest.approx(3e-3, rel=1e-2)
    assert moved[1] == pytest.approx(3e-4, rel=0.2)


def test_an_answer_is_found_all_the_same():
    """r = -0.02 |u - answer|^2 and noise: error of the mean action after 2000 transitions."""
    torch.manual_seed(0)
    answer = torch.tensor([1.0, -1.0, 0.5, 0.0])
    ppo = PPO(GaussianPolicy(4), Critic(), CONFIG)
    for _ in range(2000 // 96):
        update(ppo, lambda action: -0.02 * (action - answer).square().sum(1) + 0.01 * torch.randn(len(action)))
    assert (ppo.policy.mean(torch.ones(1, 8)) - answer).square().sum() < 0.1
