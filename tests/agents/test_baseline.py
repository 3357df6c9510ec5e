"""Transitions that bring the expected reward along: the critic has no say in the advantage."""

import copy

import torch
from torch import nn

from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig
from rl_nnunet.policies import plackett_luce


class Preferences(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(4))

    def evaluate(self, context, action):
        logits = self.logits.expand(len(action), 4)
        return plackett_luce.log_probability(logits, action), plackett_luce.entropy(logits)


def update(policy, reward, baseline):
    """A fresh PPO after one update."""
    ppo = PPO(copy.deepcopy(policy), Critic(), PPOConfig(transitions_per_update=16, entropy_weight=0.0))
    state, action = torch.randn(16, 3), torch.arange(16)[:, None] % 4
    log_probability = torch.full((16,), 0.25).log()
    ppo.transitions.record(state, {}, action, log_probability, reward, state.flip(0), baseline=baseline)
    torch.manual_seed(1)
    ppo.update_if_ready()
    return ppo


def updated(policy, reward, baseline):
    """The logits after one update by a fresh critic."""
    return update(policy, reward, baseline).policy.logits.detach()


def test_reward_minus_baseline_is_the_advantage_whatever_the_critic():
    torch.manual_seed(0)
    reward, offset = torch.rand(16), torch.randn(16)
    first, second = (updated(Preferences(), reward, torch.full((16,), 0.5)) for _ in range(2))
    assert first.abs().max() > 0
    assert torch.equal(first, second)
    torch.testing.assert_close(updated(Preferences(), reward + offset, 0.5 + offset), first)


def test_what_was_expected_teaches_nothing():
    torch.manual_seed(0)
    reward = torch.rand(16)
    assert torch.equal(updated(Preferences(), reward, reward), torch.zeros(4))


def test_a_critic_that_nobody_asks_is_not_trained():
    torch.manual_seed(0)
    reward = torch.rand(16)
    values = update(Preferences(), reward, reward.mean().expand(16)).critic(torch.randn(16, 3))
    assert torch.equal(values, torch.zeros(16))  # as it was made
    assert update(Preferences(), reward, None).critic(torch.randn(16, 3)).abs().max() > 0
