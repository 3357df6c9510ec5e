"""From a training step to transitions, on examples that can be checked by hand."""

import math
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from rl_nnunet.agents.pose_agents import PoseAgents, anatomical_similarity, label_cube
from rl_nnunet.agents.pose_policy import PosePolicy
from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.agents.rotations import inverse, rotate, rotation_matrices

CPU = torch.device("cpu")


def agents(stages=1, collected=1000, branches=2):
    torch.manual_seed(0)
    policies = [PosePolicy(2, 3, branches, grid=4) for _ in range(stages)]
    return PoseAgents(policies, branches, PPOConfig(transitions_per_update=collected, minibatch_size=4), CPU)


def alignment(policy, directions=((0, 1), (1, 0)), count=1):
    """What a module would hand over: maps that agree up to a known cosine are set by the tests."""
    branches = torch.tensor(directions)
    main, auxiliary = torch.randn(2, len(branches), 2, 4, 4, 4)
    context = policy.context(main, auxiliary, branches)
    rotations, log_probability, probabilities = policy.draw(context, count, most_probable=False)
    return SimpleNamespace(main=main, aligned=auxiliary, context=context, rotations=rotations,
                           log_probability=log_probability, probabilities=probabilities)  # fmt: skip


def transitions(pose_agents, stage=0):
    return pose_agents.agents[stage].state_dict()["transitions"]


def test_transition_holds_reward_state_and_next_state():
    pose_agents = agents()
    step = alignment(pose_agents.agents[0].policy)
    step.aligned = torch.stack((step.main[0], -step.main[1]))  # cosine 1 and -1
    report = pose_agents.learn([step], {0: 0.25, 1: 0.75}, None, 0.1)
    (recorded,) = transitions(pose_agents)
    torch.testing.assert_close(recorded["state"], torch.zeros(2, 3))
    torch.testing.assert_close(recorded["next_state"], torch.tensor([[0.25, 1.0, 0.1], [0.75, -1.0, 0.1]]))
    torch.testing.assert_close(recorded["reward"], torch.tensor([1.25, -0.25]))
    assert torch.equal(recorded["action"], step.rotations)
    assert torch.equal(recorded["log_probability"], step.log_probability)
    assert torch.equal(recorded["context"]["main"], step.context["main"])
    assert report[0]["reward"] == pytest.approx(0.5)
    assert report[0]["similarity"] == pytest.approx(0.0, abs=1e-6)

    step.aligned = step.main
    pose_agents.learn([step], {0: 0.5, 1: 0.5}, None, 0.2)
    second = transitions(pose_agents)[1]
    assert torch.equal(second["state"], recorded["next_state"])
    torch.testing.assert_close(second["next_state"], torch.tensor([[0.5, 1.0, 0.2], [0.5, 1.0, 0.2]]))


def test_next_state_of_a_direction_is_the_mean_over_its_links():
    pose_agents = agents()
    step = alignment(pose_agents.agents[0].policy, [(0, 1), (1, 0), (0, 1)])
    step.aligned = torch.stack((step.main[0], step.main[1], -step.main[2]))
    pose_agents.learn([step], {0: 0.5, 1: 0.75}, None, 0.5)
    torch.testing.assert_close(pose_agents.last_state[0, 0, 1], torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(pose_agents.last_state[0, 1, 0], torch.tensor([0.75, 1.0, 0.5]))
    assert pose_agents.last_state[0].diagonal().abs().sum() == 0


def test_anatomical_similarity_is_the_reward_where_labels_are_given():
    pose_agents = agents()
    step = alignment(pose_agents.agents[0].policy)
    step.rotations = torch.tensor([[5], [0]])
    labels = torch.zeros(2, 1, 4, 4, 4)
    labels[:, :, :2, :1, 1:] = 1
    turned = torch.stack((rotate(labels[0], inverse(5, 3), 3), 1 - labels[1]))
    report = pose_agents.learn([step], {0: 0.5, 1: 0.5}, (labels, turned), 0.0)
    torch.testing.assert_close(transitions(pose_agents)[0]["reward"], torch.tensor([1.5, 0.5]))
    assert report[0]["similarity"] == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_overflow_is_not_recorded(bad):
    pose_agents = agents()
    step = alignment(pose_agents.agents[0].policy)
    report = pose_agents.learn([step], {0: 0.5, 1: bad}, None, 0.1)
    assert transitions(pose_agents) == []
    assert pose_agents.last_state.abs().sum() == 0
    assert report == []


def test_report_describes_the_policy():
    pose_agents = agents()
    step = alignment(pose_agents.agents[0].policy)
    step.probabilities = torch.zeros(2, 24)
    step.probabilities[0, 7] = 1
    step.probabilities[1, [7, 3]] = 0.5
    (report,) = pose_agents.learn([step], {0: 0.5, 1: 0.5}, None, 0.1)
    assert report["rotation"] == 7
    assert report["confidence"] == pytest.approx(0.75)
    assert report["entropy"] == pytest.approx(math.log(2) / 2)


def test_agents_of_all_stages_learn_and_forget():
    pose_agents = agents(stages=2, collected=4)
    before = [agent.policy.preferences.clone() for agent in pose_agents.agents]
    for step in range(2):
        steps = [alignment(agent.policy) for agent in pose_agents.agents]
        assert len(pose_agents.learn(steps, {0: 0.5, 1: 0.25}, None, 0.1)) == 2
        changed = [not torch.equal(a.policy.preferences, b) for a, b in zip(pose_agents.agents, before, strict=True)]
        assert changed == [step == 1] * 2
    assert [len(agent) for agent in pose_agents.agents] == [0, 0]


def test_state_makes_a_round_trip():
    first = agents(stages=2, collected=4)
    for _ in range(3):  # one update, and half a buffer
        first.learn([alignment(agent.policy) for agent in first.agents], {0: 0.5, 1: 0.25}, None, 0.1)
    state = first.state_dict()
    second = agents(stages=2, collected=4)
    for mine, yours in zip(second.agents, first.agents, strict=True):
        mine.policy.load_state_dict(yours.policy.state_dict())
    second.load_state_dict(deepcopy(state))  # as after a file: optimizers share tensors with what they load
    assert torch.equal(second.last_state, first.last_state)
    outcomes = []
    for pose_agents in (first, second):
        torch.manual_seed(5)
        steps = [alignment(agent.policy) for agent in pose_agents.agents]
        pose_agents.learn(steps, {0: 0.25, 1: 0.5}, None, 0.2)
        outcomes.append([*pose_agents.agents[0].policy.parameters(), *pose_agents.agents[0].critic.parameters()])
        assert [len(agent) for agent in pose_agents.agents] == [0, 0]
    for a, b in zip(*outcomes, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dimension", [2, 3])
def test_similarity_is_1_for_the_rotation_that_was_undone(dimension):
    torch.manual_seed(0)
    count = len(rotation_matrices(dimension))
    labels = label_cube(torch.randint(0, 4, (1, 1, *[16] * dimension)), 3).expand(count, -1, *[-1] * dimension)
    turned = torch.stack([rotate(x, inverse(r, dimension), dimension) for r, x in enumerate(labels)])
    right = torch.arange(count)[:, None]
    torch.testing.assert_close(anatomical_similarity(labels, turned, right), torch.ones(count))
    assert (anatomical_similarity(labels, turned, (right + 1) % count) < 0.5).all()
    both = anatomical_similarity(labels, turned, torch.cat((right, (right + 1) % count), dim=1))
    wrong = anatomical_similarity(labels, turned, (right + 1) % count)
    torch.testing.assert_close(both, (1 + wrong) / 2)


def test_label_cube_of_classes_leaves_background_and_ignore_out():
    labels = torch.zeros(1, 1, 16, 16)
    labels[..., :8, :] = 2
    labels[..., 8:, :4] = 3  # the ignore label of two classes
    cube = label_cube(labels, 2)
    assert cube.shape == (1, 2, 16, 16)
    assert cube[:, 0].sum() == 0
    assert torch.equal(cube[:, 1], (labels == 2)[:, 0].float())


def test_label_cube_takes_regions_as_they_are():
    regions = torch.rand(2, 3, 16, 16, 16).round()
    assert torch.equal(label_cube(regions, None), regions)


def test_label_cube_of_a_large_patch():
    labels = torch.ones(1, 1, 80, 40, 8)
    assert torch.equal(label_cube(labels, 1), torch.ones(1, 1, 16, 16, 16))
