"""Transitions against the definition of reward and episode, and agents that find out which modality counts."""

from dataclasses import replace

import pytest
import torch

from rl_nnunet.agents.weights import WEIGHT_PPO, InterAgent, IntraAgent, WeightReport
from rl_nnunet.outputs import Episode
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy, weights_of

CPU = torch.device("cpu")


def play(policy, observations, absent=()):
    """Let a policy act on all observations, (B, T, S); actions of absent modalities have no effect."""
    effective = torch.ones(len(observations), policy.mean.out_features, dtype=torch.bool)
    effective[:, list(absent)] = False
    acts = [policy.act(observations[:, : t + 1], effective, most_probable=False) for t in range(observations.shape[1])]
    return Episode(observations, effective, *(torch.stack(part, 1) for part in zip(*acts, strict=True)))


def learn(agent, episode, gains):
    weights = weights_of(episode.actions[:, -1]).where(episode.effective, torch.nan)
    return agent.learn(WeightReport({}, 0.0, 0.0, {agent.name: weights}, {agent.name: episode}, gains))


def test_hyperparameters_of_the_paper():
    assert (WEIGHT_PPO.discount, WEIGHT_PPO.weight_decay) == (0.1, 1e-5)


def test_transitions():
    policy = RecurrentGaussianPolicy(4, 2)
    agent = InterAgent(["CT", "MRI"], policy, WEIGHT_PPO, CPU)
    episode = play(policy, torch.randn(2, 3, 4))
    logs = learn(agent, episode, torch.tensor([[0.0, 0.1, -0.1, 0.4], [0.0, 0.0, 0.1, 0.3]]))
    torch.testing.assert_close(logs["weight_MRI"], weights_of(episode.actions[:, -1, 1]).mean())
    assert set(logs) | {"approximate_kl_inter", "clip_fraction_inter"} == {k for p in agent.panels for k in p.keys}
    stored = agent.state_dict()["transitions"]
    assert len(stored) == 3
    gains = [[0.0, 0.0], [0.1, 0.0], [-0.1, 0.1]]
    for step, rewards in enumerate([[0.1, 0.0], [-0.2, 0.1], [0.5, 0.2]]):
        transition = stored[step]
        torch.testing.assert_close(transition["reward"], torch.tensor(rewards))
        assert transition["terminal"].tolist() == [step == 2] * 2
        assert torch.equal(transition["action"], episode.actions[:, step])
        assert transition["context"]["step"].tolist() == [step] * 2
        assert transition["context"]["effective"].all()
        torch.testing.assert_close(transition["state"][:, -2], torch.full((2,), step / 3))
        torch.testing.assert_close(transition["state"][:, -1], torch.tensor(gains[step]))
    for step in range(2):
        assert torch.equal(stored[step]["next_state"], stored[step + 1]["state"])


def test_a_step_without_exploration_teaches_nothing_and_is_logged():
    agent = InterAgent("ab", RecurrentGaussianPolicy(4, 2), WEIGHT_PPO, CPU)
    weights = torch.tensor([[0.5, torch.nan], [1.0, torch.nan]])
    logs = agent.learn(WeightReport({}, 0.0, 0.0, {"inter": weights}, {}, None))
    assert len(agent.ppo) == 0
    assert logs["weight_a"] == 0.75
    assert logs["weight_b"].isnan()


def test_nothing_is_recorded_after_an_overflow():
    policy = RecurrentGaussianPolicy(4, 2)
    agent = IntraAgent(policy, WEIGHT_PPO, CPU)
    logs = learn(agent, play(policy, torch.randn(1, 1, 4)), torch.tensor([[0.0, torch.nan]]))
    assert len(agent.ppo) == 0
    assert logs["exploration_intra"] == 0.5


@pytest.mark.parametrize("noise", [0, 2])
def test_a_useless_modality_gets_the_lowest_weight(noise):
    """A decision whose probability is the share of the weight that useful modalities have."""
    torch.manual_seed(0)
    policy = RecurrentGaussianPolicy(4, 3, hidden_size=16)
    agent = InterAgent("abc", policy, replace(WEIGHT_PPO, transitions_per_update=48), CPU)
    for _ in range(60):
        episode = play(policy, torch.randn(8, 3, 4))
        weights = torch.cat((torch.ones(8, 1, 3), weights_of(episode.actions)), 1)
        learn(agent, episode, weights[:, :1, noise] / weights[:, :1].sum(-1) - weights[..., noise] / weights.sum(-1))
    effective = torch.ones(64, 3, dtype=torch.bool)
    means = weights_of(policy.act(torch.randn(64, 1, 4), effective, most_probable=True)[0]).mean(0)
    assert means.argmin() == noise
    assert means[noise] < 0.7


def test_the_action_of_an_absent_modality_is_not_learnt_from():
    """Rewards that hang together with what the absent modality's action would have been."""
    torch.manual_seed(0)
    policy = RecurrentGaussianPolicy(4, 3, hidden_size=16)
    agent = InterAgent("abc", policy, replace(WEIGHT_PPO, weight_decay=0.0), CPU)
    before = policy.log_standard_deviation.detach().clone()
    for _ in range(8):
        episode = play(policy, torch.randn(8, 3, 4), absent=[1])
        assert episode.actions[..., 1].eq(0).all()
        learn(agent, episode, torch.randn(8, 4))
    moved = policy.log_standard_deviation.detach() - before
    assert moved[1] == 0
    assert (moved[[0, 2]].abs() > 1e-3).all()


def test_checkpoint_continues_as_if_never_interrupted():
    def make():
        torch.manual_seed(1)
        policy = RecurrentGaussianPolicy(4, 3)
        return policy, InterAgent("abc", policy, replace(WEIGHT_PPO, transitions_per_update=30), CPU)

    def train(policy, agents, steps):
        for _ in range(steps):
            learn(agents, play(policy, torch.randn(4, 3, 4)), torch.rand(4, 4))

    policy, agents = make()
    train(policy, agents, 4)
    saved, weights, random_state = agents.state_dict(), policy.state_dict(), torch.get_rng_state()
    saved, weights = torch.utils._pytree.tree_map(lambda x: x.clone() if torch.is_tensor(x) else x, (saved, weights))
    train(policy, agents, 4)
    resumed_policy, resumed = make()
    resumed_policy.load_state_dict(weights)
    resumed.load_state_dict(saved)
    torch.set_rng_state(random_state)
    train(resumed_policy, resumed, 4)
    for one, other in zip(policy.parameters(), resumed_policy.parameters(), strict=True):
        assert torch.equal(one, other)
