"""The selection agent against the closed form of what it maximizes, and on a toy whose best actions are known."""

import copy

import pytest
import torch

from rl_nnunet.agents.selection import SelectionAgent, SelectionConfig, SelectionReport, objective
from rl_nnunet.outputs import Selection
from rl_nnunet.policies.selection import SelectionPolicy


def learn(agent, observations, rewards, present=None):
    present = torch.ones(len(rewards), rewards.shape[1] - 1, dtype=torch.bool) if present is None else present
    return agent.learn(SelectionReport({}, 0.0, 0.0, Selection(observations, present, []), rewards))


def make_agent(modalities, size, **config):
    torch.manual_seed(0)
    return SelectionAgent(modalities, SelectionPolicy(size, len(modalities), 16), SelectionConfig(**config))


def test_objective_by_hand():
    logs = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.0, 0.5]]).log()
    rewards = torch.tensor([[1.0, 2.0, 0.0], [4.0, 9.0, 0.0]])
    first = 0.5 + 0.5 + 0.1 * (0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(4.0).log())
    second = 2.0 + 0.1 * torch.tensor(2.0).log()
    torch.testing.assert_close(objective(logs, rewards, 0.1), (first + second) / 2)


def test_gradient_of_the_objective_is_finite_where_an_action_is_impossible():
    logits = torch.zeros(1, 3, requires_grad=True)
    masked = logits.masked_fill(torch.tensor([[False, True, False]]), -torch.inf).log_softmax(1)
    objective(masked, torch.tensor([[1.0, 5.0, 0.0]]), 0.3).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, 0.0, -0.25]]))


def test_the_policy_becomes_the_maximum_in_closed_form():
    """Where rewards do not change, pi(a) ends proportional to exp(r(a) / (sigma tau)), sigma their root mean square."""
    agent = make_agent("ab", 2, learning_rate=2e-2, temperature=0.5)
    rewards = torch.tensor([[0.03, -0.04, 0.0]])
    for _ in range(125):
        learn(agent, torch.ones(1, 2), rewards)
    sigma = (0.03**2 / 2 + 0.04**2 / 2) ** 0.5
    found = agent.policy.log_probabilities(torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found.exp(), (rewards / (sigma * 0.5)).softmax(1), atol=1e-3, rtol=0)


def test_it_learns_when_to_leave_out_what_is_mostly_worth_keeping():
    """A modality is spoiled in one of ten samples, and then the first observation is high; else leaving out costs."""
    agent = make_agent("abc", 5, temperature=0.3)
    generator = torch.Generator().manual_seed(1)

    def draw(samples):
        observations = torch.randn(samples, 5, generator=generator)
        spoiled = torch.rand(samples, generator=generator) < 0.1
        observations[:, 0] = torch.where(spoiled, 3.0, 0.0)
        rewards = torch.full((samples, 4), -0.02) + 0.02 * torch.randn(samples, 4, generator=generator)
        rewards[:, 1] = torch.where(spoiled, 0.1, rewards[:, 1])
        rewards[:, -1] = 0
        return observations, spoiled, rewards

    for _ in range(150):
        observations, _, rewards = draw(8)
        logs = learn(agent, observations, rewards)
    assert set(logs) == {key for panel in agent.panels for key in panel.keys}
    observations, spoiled, _ = draw(500)
    kept = agent.policy(observations, torch.ones(500, 3, dtype=torch.bool))
    assert (~kept[spoiled, 1]).float().mean() > 0.95
    assert kept[~spoiled].float().mean() > 0.95


def test_the_memory_holds_the_last_samples():
    agent = make_agent("ab", 1, memory=5)
    for first in (0, 3, 6):
        observations = torch.arange(first, first + 3.0)[:, None]
        learn(agent, observations, torch.zeros(3, 3))
    assert agent.memory["observations"].flatten().tolist() == [4, 5, 6, 7, 8]


def test_logs_by_hand():
    agent = make_agent("ab", 2)
    agent.policy.layers[-1].bias.data = torch.tensor([1.0, 0.0, 0.0])
    present = torch.tensor([[True, True], [False, True]])
    logs = learn(agent, torch.randn(2, 2), torch.tensor([[0.1, 0.3, 0.0], [0.5, 0.5, 0.0]]), present)
    assert logs["selection_gain"].item() == pytest.approx(0.05)  # the second sample has nothing to leave out
    assert logs["selection_best_gain"].item() == pytest.approx(0.15)
    assert logs["left_out_a"].item() == pytest.approx(torch.tensor([1.0, 0.0, 0.0]).softmax(0)[0].item() / 2)


@pytest.mark.parametrize("rewards", [None, torch.tensor([[float("nan"), 0.0, 0.0]])], ids=["not tried", "overflow"])
def test_nothing_is_learnt_without_rewards(rewards):
    agent = make_agent("ab", 2)
    before = copy.deepcopy(agent.policy.state_dict())
    selection = None if rewards is None else Selection(torch.randn(1, 2), torch.ones(1, 2, dtype=torch.bool), [])
    assert agent.learn(SelectionReport({}, 0.0, 0.0, selection, rewards)) == {}
    assert all(torch.equal(value, before[name]) for name, value in agent.policy.state_dict().items())


def test_a_restored_agent_goes_on_as_if_nothing_had_happened():
    torch.manual_seed(1)
    steps = [(torch.randn(4, 2), torch.randn(4, 3)) for _ in range(6)]
    agent = make_agent("ab", 2)
    for step in steps[:3]:
        learn(agent, *step)
    saved, weights = copy.deepcopy(agent.state_dict()), copy.deepcopy(agent.policy.state_dict())
    other = make_agent("ab", 2)
    other.policy.load_state_dict(weights)
    other.load_state_dict(saved)
    for each in (agent, other):
        torch.manual_seed(2)
        for step in steps[3:]:
            learn(each, *step)
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[name])


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"temperature": 0.0}, {"momentum": 1.0}, {"memory": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="out of range"):
        SelectionConfig(**wrong)
