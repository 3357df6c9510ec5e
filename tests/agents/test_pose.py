"""From a training step to transitions, on examples that can be checked by hand."""

import math
from copy import deepcopy

import pytest
import torch

from rl_nnunet.agents.pose import PoseAgent, PoseReport, select_links
from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.outputs import Alignment
from rl_nnunet.policies import plackett_luce
from rl_nnunet.policies.pose import PosePolicy

CPU = torch.device("cpu")


def make_agent(collected=1000, branches=2):
    torch.manual_seed(0)
    policy = PosePolicy(2, 3, branches, grid=4)
    return PoseAgent(3, policy, branches, PPOConfig(transitions_per_update=collected, minibatch_size=4), CPU)


PAIR = ((0, 1), (1, 0))


def alignment(policy, directions=PAIR, count=1):
    """What a module would hand over: maps that agree up to a known cosine are set by the tests."""
    branches = torch.tensor(directions)
    main, auxiliary = torch.randn(2, len(branches), 2, 4, 4, 4)
    context = policy.context(main, auxiliary, branches)
    return Alignment(main, auxiliary, context, *policy.draw(context, count, most_probable=False))


def learn(agent, step, dice, similarities=None, progress=0.1, matched=None):
    directions = [tuple(pair) for pair in step.context["branches"].tolist()]
    matched = range(len(directions)) if matched is None else matched
    return agent.learn(PoseReport({}, 0.0, progress, {3: step}, directions, list(matched), dice, similarities))


def transitions(agent):
    return agent.state_dict()["transitions"]


def test_transition_holds_reward_state_and_next_state():
    agent = make_agent()
    step = alignment(agent.ppo.policy)
    step = step._replace(aligned=torch.stack((step.main[0], -step.main[1])))  # cosine 1 and -1
    logs = learn(agent, step, {0: 0.25, 1: 0.75})
    (recorded,) = transitions(agent)
    torch.testing.assert_close(recorded["state"], torch.zeros(2, 3))
    torch.testing.assert_close(recorded["next_state"], torch.tensor([[0.25, 1.0, 0.1], [0.75, -1.0, 0.1]]))
    torch.testing.assert_close(recorded["reward"], torch.tensor([1.25, -0.25]))
    assert torch.equal(recorded["action"], step.rotations)
    assert torch.equal(recorded["log_probability"], step.log_probability)
    assert torch.equal(recorded["context"]["main"], step.context["main"])
    assert "baseline" not in recorded  # the features of other rotations are not known: the critic is asked
    assert logs["reward_stage3"].item() == pytest.approx(0.5)
    assert logs["similarity_stage3"].item() == pytest.approx(0.0, abs=1e-6)

    learn(agent, step._replace(aligned=step.main), {0: 0.5, 1: 0.5}, progress=0.2)
    second = transitions(agent)[1]
    assert torch.equal(second["state"], recorded["next_state"])
    torch.testing.assert_close(second["next_state"], torch.tensor([[0.5, 1.0, 0.2], [0.5, 1.0, 0.2]]))


def test_next_state_of_a_direction_is_the_mean_over_its_links():
    agent = make_agent()
    step = alignment(agent.ppo.policy, [(0, 1), (1, 0), (0, 1)])
    step = step._replace(aligned=torch.stack((step.main[0], step.main[1], -step.main[2])))
    learn(agent, step, {0: 0.5, 1: 0.75}, progress=0.5)
    torch.testing.assert_close(agent.last_state[0, 1], torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(agent.last_state[1, 0], torch.tensor([0.75, 1.0, 0.5]))
    assert agent.last_state.diagonal().abs().sum() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_reward_and_baseline_where_the_similarity_of_every_rotation_is_known(count):
    agent = make_agent()
    step = alignment(agent.ppo.policy, count=count)
    similarities = torch.rand(2, 24)
    logs = learn(agent, step, {0: 0.25, 1: 0.5}, similarities)
    (recorded,) = transitions(agent)
    for link, dice in enumerate((0.25, 0.5)):
        drawn = [similarities[link, r].item() for r in step.rotations[link].tolist()]
        expected = sum((step.probabilities[link] * similarities[link]).tolist())
        assert recorded["reward"][link].item() == pytest.approx(dice + sum(drawn) / count)
        assert recorded["baseline"][link].item() == pytest.approx(dice + expected)
    torch.testing.assert_close(logs["reward_stage3"], recorded["reward"].mean())


def test_the_baseline_is_the_expectation_of_the_reward():
    """Over many draws of one link, the mean advantage is 0."""
    agent = make_agent(collected=10**6)
    torch.nn.init.normal_(agent.ppo.policy.preferences)
    step = alignment(agent.ppo.policy, [(0, 1)])
    many = [x.expand(20_000, *x.shape[1:]) for x in (step.context["main"], step.context["auxiliary"])]
    context = {"branches": torch.tensor([[0, 1]]).expand(20_000, 2), "main": many[0], "auxiliary": many[1]}
    logits = agent.ppo.policy.logits(step.context)
    rotations = plackett_luce.draw(logits.expand(20_000, -1), 1)
    step = Alignment(*many, context, rotations, torch.zeros(20_000), step.probabilities.expand(20_000, -1))
    learn(agent, step, {0: 0.5}, torch.rand(1, 24).expand(20_000, -1))
    advantage = transitions(agent)[0]["reward"] - transitions(agent)[0]["baseline"]
    assert advantage.std() > 0.1
    assert abs(advantage.mean()) < 4 * advantage.std() / 20_000**0.5


def test_links_between_different_anatomies_are_not_recorded():
    directions = [(0, 1), (1, 0), (0, 1), (1, 0)]
    whole, part = make_agent(), make_agent()
    step, similarities = alignment(whole.ppo.policy, directions), torch.rand(4, 24)
    logs = learn(part, step, {0: 0.25, 1: 0.75}, similarities, matched=[1, 2])
    kept = torch.tensor([1, 2])
    expected = learn(whole, select_links(step, kept), {0: 0.25, 1: 0.75}, similarities[kept])
    assert {k: v.item() for k, v in logs.items()} == {k: v.item() for k, v in expected.items()}
    for name, value in transitions(whole)[0].items():
        torch.testing.assert_close(transitions(part)[0][name], value)
    assert learn(part, step, {0: 0.25, 1: 0.75}, similarities, matched=[]) == {}
    assert len(transitions(part)) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_overflow_is_not_recorded(bad):
    agent = make_agent()
    assert learn(agent, alignment(agent.ppo.policy), {0: 0.5, 1: bad}) == {}
    assert transitions(agent) == []
    assert agent.last_state.abs().sum() == 0


def test_a_step_without_links_is_not_recorded():
    agent = make_agent()
    assert agent.learn(PoseReport({}, 0.0, 0.1, {}, [], [], {0: 0.5}, None)) == {}
    assert transitions(agent) == []


def test_logs_describe_the_policy():
    agent = make_agent()
    probabilities = torch.zeros(2, 24)
    probabilities[0, 7] = 1
    probabilities[1, [7, 3]] = 0.5
    logs = learn(agent, alignment(agent.ppo.policy)._replace(probabilities=probabilities), {0: 0.5, 1: 0.5})
    assert logs["rotation_stage3"] == 7
    assert logs["policy_entropy_stage3"].item() == pytest.approx(math.log(2) / 2)


def test_the_policy_learns_once_enough_is_collected_and_the_update_is_logged():
    agent = make_agent(collected=4)
    before = agent.ppo.policy.preferences.clone()
    keys = {key for panel in agent.panels for key in panel.keys}
    for step in range(2):
        logs = learn(agent, alignment(agent.ppo.policy), {0: 0.5, 1: 0.25})
        assert torch.equal(agent.ppo.policy.preferences, before) == (step == 0)
        assert ("approximate_kl_stage3" in logs) == ("clip_fraction_stage3" in logs) == (step == 1)
        assert set(logs) <= keys
    assert set(logs) == keys
    assert len(agent.ppo) == 0


def test_state_makes_a_round_trip():
    first = make_agent(collected=4)
    for _ in range(3):  # one update, and half a buffer
        learn(first, alignment(first.ppo.policy), {0: 0.5, 1: 0.25})
    second = make_agent(collected=4)
    second.ppo.policy.load_state_dict(first.ppo.policy.state_dict())
    second.load_state_dict(
        deepcopy(first.state_dict())
    )  # as after a file: optimizers share tensors with what they load
    assert torch.equal(second.last_state, first.last_state)
    outcomes = []
    for agent in (first, second):
        torch.manual_seed(5)
        learn(agent, alignment(agent.ppo.policy), {0: 0.25, 1: 0.5}, progress=0.2)
        outcomes.append([*agent.ppo.policy.parameters(), *agent.ppo.critic.parameters()])
        assert len(agent.ppo) == 0
    for a, b in zip(*outcomes, strict=True):
        assert torch.equal(a, b)
