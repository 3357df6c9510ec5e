"""Eq. 3-7 of APGA and our form of them by hand-computed cases, and what a step of the agent does to whom."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from rl_nnunet.agents.agent import StepReport
from rl_nnunet.agents.mask import MaskAgent, PaperMaskAgent, ScriptMaskAgent, held_share, standardized
from rl_nnunet.agents.masks import IS_AIDED, MaskConfig
from rl_nnunet.policies.mask import MaskPolicy
from rl_nnunet.presence.patches import absent_channels

P = torch.tensor([[0.8, 0.4]])
LOGITS = torch.log(P / (1 - P))
"""One image of two cells with these importances."""
CONFIG = MaskConfig(draws=3)


def make(agent_class=MaskAgent, losses=None, channels=1, groups=((0,),), config=CONFIG):
    policy = MaskPolicy(channels, (8, 8), (4, 4))
    agent = agent_class(policy, losses or bright_losses, groups, torch.zeros(channels), config)
    agent.is_on = True
    return agent


def bright_losses(batch):
    """A loss that rises as the upper left quarter is erased."""
    return -batch["data"][:, :, :4, :4].abs().mean((1, 2, 3))[:, None]


def report(channels=1, **entries):
    return StepReport({"data": torch.randn(4, channels, 8, 8), **entries}, 0.0, 0.5)


# ---- equations -------------------------------------------------------------------------------------------------------


def test_loss_of_the_paper():
    """Eq. 7 with R = (1.5 + 0.5) / 2 of two images, b = 0.5 * 0.2 + 0.5 * 1 = 0.6, lambda = 0.1."""
    agent = make(PaperMaskAgent)
    agent.baseline = 0.2
    logits, actions = LOGITS.repeat(2, 1), torch.tensor([[[True, False]] * 2])
    of_action = -(math.log(0.8) + math.log(0.6)) / 2
    of_zeros = -(math.log(0.2) + math.log(0.6)) / 2
    loss = agent.policy_loss(logits, actions, torch.tensor([[1.5, 0.5]]), torch.ones(2))
    assert loss == pytest.approx(of_action * (1.0 - 0.6) + 0.1 * of_zeros, rel=1e-5)


def test_loss_of_the_script():
    agent = make(ScriptMaskAgent)
    agent.baseline = 2.0
    of_action, of_zeros, of_ones = (-(math.log(a) + math.log(b)) / 2 for a, b in ((0.8, 0.6), (0.2, 0.6), (0.8, 0.4)))
    loss = agent.policy_loss(LOGITS, torch.tensor([[[True, False]]]), torch.tensor([[1.0]]), torch.ones(1))
    assert loss == pytest.approx(100 * of_action * -0.5 + 0.5 * (0.1 * of_zeros + 0.01 * of_ones), rel=1e-5)


def test_moving_average_of_the_reward():
    """With decay 0.5: b = 2, 3, 1.5 for rewards 2, 4, 0."""
    agent = make(PaperMaskAgent)
    assert [agent.advantage(reward) for reward in (2.0, 4.0, 0.0)] == [0.0, 1.0, -1.5]
    assert agent.baseline == 1.5
    slow = make(PaperMaskAgent, config=replace(CONFIG, decay=0.9))
    assert [slow.advantage(reward) for reward in (1.0, 2.0)] == pytest.approx([0.0, 0.9])


def test_the_paper_acts_by_its_threshold_and_keeps_what_it_erases():
    agent = make(PaperMaskAgent)
    assert agent.act(LOGITS).tolist() == [[[True, False]]]
    assert agent.aid(LOGITS).tolist() == [[True, False]]


def test_our_loss():
    """Rewards 3, 1, 2 of one image, of which 4 was possible: advantages of +-sqrt(3/2) and 0, half of the penalty."""
    agent = make()
    actions = torch.tensor([[[True, True]], [[False, False]], [[True, False]]])
    rewards, possible = torch.tensor([[3.0], [1.0], [2.0]]), torch.tensor([4.0])
    erased, kept = math.log(0.8) + math.log(0.4), math.log(0.2) + math.log(0.6)
    expected = -math.sqrt(1.5) * (erased - kept) / 3 + 0.1 * 0.5 * -kept
    assert agent.policy_loss(LOGITS, actions, rewards, possible) == pytest.approx(expected, rel=1e-5)


def test_advantages_are_standardized_per_image_and_shrink_where_nothing_differs():
    rewards = torch.tensor([[1.0, 100.0, 5.0], [3.0, 300.0, 5.0 + 2e-4]])
    advantages = standardized(rewards)
    torch.testing.assert_close(advantages[:, :2], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    torch.testing.assert_close(advantages[:, 2], torch.tensor([-0.1, 0.1]), atol=1e-3, rtol=0)


def test_share_of_the_possible_reward():
    rewards = torch.tensor([[1.0, 5.0, -1.0, 1.0], [2.0, 5.0, 0.0, 1.0]])
    possible = torch.tensor([3.0, 4.0, 1.0, -2.0])
    assert held_share(rewards, possible).tolist() == [0.5, 1.0, 0.0, 1.0]


def test_reward_is_the_rise_of_the_loss():
    """Eq. 6; erasing the quarter that the loss looks at costs all of it, erasing another one nothing."""
    agent, batch = make(), report().batch
    corner = torch.zeros(1, 4, 2, 2, dtype=torch.bool)
    corner[..., 0, 0] = True
    rewards, possible = agent.rewards(batch, torch.cat((corner, ~corner)))
    torch.testing.assert_close(rewards[0], -bright_losses(batch)[:, 0])
    torch.testing.assert_close(rewards[1], torch.zeros(4))
    # One voxel stays, lest the image looks like an absent one.
    assert (possible > 0.5 * rewards[0]).all()


# ---- a step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent_class", [MaskAgent, PaperMaskAgent, ScriptMaskAgent])
def test_gradients_reach_the_policy_and_nothing_else(agent_class):
    task = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    agent = make(agent_class, lambda batch: task(batch["data"]))
    if agent_class is not MaskAgent:
        agent.baseline = 5.0
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    logged = agent.learn(report())
    assert all(parameter.grad is None for parameter in task.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.policy.parameters(), strict=True))
    assert set(logged) == {key for panel in agent.panels for key in panel.keys}
    assert not agent.keep(report().batch).requires_grad


@pytest.mark.parametrize("change", [{IS_AIDED: True}, {"is_on": False}, {"losses": torch.inf}])
def test_nothing_is_learnt_from_aided_images_before_its_time_or_from_an_overflow(change):
    agent = make()
    agent.is_on = change.get("is_on", True)
    if "losses" in change:
        agent.losses = lambda batch: torch.full((len(batch["data"]), 1), torch.inf)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(report(**{IS_AIDED: True} if IS_AIDED in change else {}))
    assert all(torch.equal(value, before[name]) for name, value in agent.policy.state_dict().items())


def test_each_group_has_a_mask_of_its_own():
    """The reward of a group follows from its own mask, and the policy sees a group alone."""

    def losses(batch):
        data = batch["data"]
        # A fully erased branch must look present, in whatever the network is asked.
        assert not absent_channels(data, groups, torch.zeros(3)).any()
        return -data[:, :2, :4, :4].abs().flatten(2).mean(2)

    groups = ((0, 2), (1,))
    agent = make(losses=losses, channels=3, groups=groups)
    data = torch.randn(5, 3, 8, 8)
    views = agent.views(data)
    assert views.shape == (10, 3, 8, 8)
    assert torch.equal(views[0, [0, 2]], data[0, [0, 2]])
    assert torch.equal(views[1, 1], data[0, 1])
    assert not views[0, 1].any()
    assert not views[1, [0, 2]].any()
    actions = torch.zeros(1, 10, 2, 2, dtype=torch.bool)
    actions[0, 3, 0, 0] = True  # the second group of the second image
    rewards, possible = agent.rewards({"data": data}, actions)
    assert rewards[0].nonzero().flatten().tolist() == [3]
    assert (possible > 0).all()
    kept = agent.keep({"data": data})
    assert kept.shape == (5, 2, 8, 8)
    assert not torch.equal(kept[:, 0], kept[:, 1])
    agent.learn(StepReport({"data": data}, 0.0, 0.5))


@pytest.mark.parametrize("agent_class", [MaskAgent, PaperMaskAgent])
def test_a_restored_agent_goes_on_as_the_first(agent_class):
    first, second = make(agent_class), make(agent_class)
    batches = [report() for _ in range(4)]
    for batch in batches[:2]:
        first.learn(batch)
    second.load_state_dict(deepcopy(first.state_dict()))
    for agent in (first, second):
        torch.manual_seed(0)
        for batch in batches[2:]:
            agent.learn(batch)
    for name, value in first.policy.state_dict().items():
        assert torch.equal(value, second.policy.state_dict()[name])


@pytest.mark.parametrize(
    "field",
    [
        {"pretrained_share": 1.0}, {"smallest_kept": 2}, {"cells": 0}, {"draws": 1}, {"penalty": -1}, {"decay": 1.0},
        {"learning_rate": 0.0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"MaskConfig: {next(iter(field))} is out of range"):
        MaskConfig(**field)
