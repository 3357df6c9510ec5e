"""The recurrent Gaussian policy against torch's own multivariate normal, and a recurrence written out."""

import math

import pytest
import torch
from torch import nn

from rl_nnunet.policies.gaussian import INITIAL_STANDARD_DEVIATION, RecurrentGaussianPolicy, weights_of


@pytest.fixture
def policy():
    torch.manual_seed(0)
    policy = RecurrentGaussianPolicy(observation_size=5, action_size=3, hidden_size=4)
    nn.init.normal_(policy.mean.weight)
    nn.init.normal_(policy.log_standard_deviation, std=0.3)
    return policy


def test_first_weights_are_one_on_average_and_lie_between_zero_and_two():
    policy = RecurrentGaussianPolicy(5, 3)
    observations, every = torch.randn(2000, 1, 5), torch.ones(2000, 3, dtype=torch.bool)
    mean, _ = policy.act(observations, every, most_probable=True)
    assert torch.equal(weights_of(mean), torch.ones(2000, 3))
    drawn = policy.act(observations, every, most_probable=False)[0]
    assert drawn.std().item() == pytest.approx(INITIAL_STANDARD_DEVIATION, rel=0.05)
    assert ((weights_of(drawn) > 0) & (weights_of(drawn) < 2)).all()


def means_step_by_step(policy, observations):
    """The recurrence with torch's cell, one observation after the other."""
    cell = nn.GRUCell(5, 4)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in policy.recurrent.state_dict().items()})
    hidden, means = torch.zeros(len(observations), 4), []
    for observation in observations.unbind(1):
        hidden = cell(observation, hidden)
        means.append(policy.mean(hidden))
    return torch.stack(means, 1)


@pytest.mark.parametrize("effective", [[True, True, True], [True, False, True], [False, False, False]])
def test_act_and_evaluate_agree_with_the_recurrence_and_the_multivariate_normal(policy, effective):
    """Of the entries that have an effect; no entry at all has the log-probability and entropy of certainty."""
    observations, kept = torch.randn(6, 3, 5), torch.tensor(effective)
    means = means_step_by_step(policy, observations)[..., kept]
    covariance = torch.diag(policy.log_standard_deviation[kept].exp() ** 2)
    for step in range(3):
        action, log_probability = policy.act(observations[:, : step + 1], kept.expand(6, 3), most_probable=False)
        assert action[:, ~kept].eq(0).all()
        context = {"observations": observations, "step": torch.full((6,), step), "effective": kept.expand(6, 3)}
        evaluated, entropy = policy.evaluate(context, action)
        torch.testing.assert_close(evaluated, log_probability)
        if not kept.any():
            assert evaluated.eq(0).all()
            assert entropy.eq(0).all()
            continue
        expected = torch.distributions.MultivariateNormal(means[:, step], covariance)
        torch.testing.assert_close(log_probability, expected.log_prob(action[:, kept]))
        torch.testing.assert_close(entropy, expected.entropy())
        mean, density = policy.act(observations[:, : step + 1], kept.expand(6, 3), most_probable=True)
        torch.testing.assert_close(mean[:, kept], means[:, step])
        peak = -(policy.log_standard_deviation[kept] + 0.5 * math.log(2 * math.pi)).sum()
        torch.testing.assert_close(density, peak.expand(6))


def test_only_earlier_observations_matter_and_all_of_them_do(policy):
    observations = torch.randn(1, 3, 5, requires_grad=True)
    context = {"observations": observations, "step": torch.tensor([1]), "effective": torch.ones(1, 3, dtype=torch.bool)}
    policy.evaluate(context, torch.zeros(1, 3))[0].sum().backward()
    moved = observations.grad[0].abs().sum(1)
    assert moved[0] > 0
    assert moved[1] > 0
    assert moved[2] == 0
