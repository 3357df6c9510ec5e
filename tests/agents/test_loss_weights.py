"""The agent that weighs the branches' losses: one step by hand, problems with a known answer, its state."""

import copy
import math

import pytest
import torch

from rl_nnunet.agents.agent import ValidationReport
from rl_nnunet.agents.loss_weights import LossWeightAgent, LossWeightConfig
from rl_nnunet.losses.branched_loss import BranchWeights

NAMES = ("CT", "MRI")


def report(score, progress=0.0):
    return ValidationReport(score, progress, dict.fromkeys(NAMES, score))


def train(agent, score_of, epochs, noise=0.01, curve=0.0):
    """Let an agent live through a training whose score depends on the weight of CT; return that weight per epoch."""
    weights = []
    for epoch in range(epochs):
        weights.append(agent.update({})[0].item())
        score = score_of(weights[-1]) - curve * math.exp(-epoch / 50) + noise * torch.randn(()).item()
        agent.learn_from_validation(report(score, epoch / epochs))
    return torch.tensor(weights)


def test_weights_start_equal_and_keep_their_mean():
    torch.manual_seed(0)
    agent: BranchWeights = LossWeightAgent(("T1", "T2", "FLAIR"))
    assert agent.update({0: 0.5, 2: torch.tensor(3.0)}).tolist() == [1, 1, 1]
    seen = set()
    for epoch in range(30):
        scores = dict.fromkeys(("T1", "T2", "FLAIR"), 0.5)
        agent.learn_from_validation(ValidationReport(0.5, epoch / 50, scores))
        weights = agent.update({})
        assert weights.mean().item() == pytest.approx(1)
        assert weights.min() > 0.1
        seen.add(tuple(weights.tolist()))
    assert len(seen) > 10


def test_a_step_moves_a_weight_by_the_papers_fifth():
    torch.manual_seed(3)
    agent = LossWeightAgent(NAMES)
    agent.learn_from_validation(report(0.5))
    moved = 1 + 0.2 * (agent.state_dict()["action"]["choice"] - 1)
    torch.testing.assert_close(agent.update({}), moved / moved.mean())


@pytest.mark.parametrize(("rewards", "sign"), [((0.1, 0.3), 1), ((0.1, -0.1), -1)])
def test_reinforce_by_hand(rewards, sign):
    """Uniform over three directions, the gradient of the last layer's bias is (one-hot - 1/3) times the advantage.

    The first reward becomes the baseline, 0.1; the advantage of the second, +-0.2, is divided by its own root mean
    square. Adam's first step is the sign of the gradient times the learning rate.
    """
    torch.manual_seed(1)
    agent = LossWeightAgent(NAMES, LossWeightConfig(learning_rate=0.01))
    assert math.isnan(agent.learn_from_validation(report(0.2))["loss_weight_reward"])
    score = 0.2 + rewards[0]
    logged = agent.learn_from_validation(report(score))
    assert logged["loss_weight_reward"] == pytest.approx(rewards[0])
    assert not any(p.any() for p in agent.policy[-1].parameters())  # without a baseline, nothing is learnt
    choice = agent.state_dict()["action"]["choice"].clone()
    logged = agent.learn_from_validation(report(score + rewards[1]))
    assert logged == pytest.approx({"loss_weight_reward": rewards[1], "loss_weight_baseline": rewards[0]})
    expected = sign * 0.01 * (2 * torch.nn.functional.one_hot(choice, 3).flatten() - 1)
    torch.testing.assert_close(agent.policy[-1].bias.detach(), expected.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("best", [0.6, 1.4])
def test_the_best_weight_is_found(best):
    """The score is highest at one weight of CT, under a learning curve that rises whatever the weights are."""
    for seed in range(2):
        torch.manual_seed(seed)
        agent = LossWeightAgent(NAMES)
        weights = train(agent, lambda weight: 0.9 - 0.3 * (weight - best) ** 2, epochs=200, curve=0.5)
        assert weights[-60:].mean().item() == pytest.approx(best, abs=0.12)


def test_scores_that_say_nothing_are_passed_over():
    torch.manual_seed(0)
    agent = LossWeightAgent(NAMES)
    agent.learn_from_validation(report(0.4))
    assert math.isnan(agent.learn_from_validation(report(math.nan))["loss_weight_reward"])
    one = ValidationReport(0.5, 0.5, {"CT": 0.5, "MRI": math.nan})
    assert agent.learn_from_validation(one)["loss_weight_reward"] == pytest.approx(0.1)
    assert agent.update({}).isfinite().all()


def test_state_goes_on_where_it_was_saved():
    torch.manual_seed(0)
    agent, other = LossWeightAgent(NAMES), LossWeightAgent(NAMES)
    train(agent, lambda weight: weight / 4, epochs=5)
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    runs = []
    for each in (agent, other):
        torch.manual_seed(9)
        runs.append(train(each, lambda weight: weight / 4, epochs=10))
    assert torch.equal(*runs)


@pytest.mark.parametrize(
    "values", [{"step": 0}, {"smallest": 0}, {"smallest": 1.1}, {"largest": 0.9}, {"learning_rate": 0},
               {"momentum": 1.0}, {"hidden_size": 0}],
)  # fmt: skip
def test_ranges_are_checked(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} is out of range"):
        LossWeightConfig(**values)
