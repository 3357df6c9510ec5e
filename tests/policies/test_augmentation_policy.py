"""The policy of augmentation against torch's multivariate normal, and what its actions mean."""

import pytest
import torch

from rl_nnunet.policies.augmentation import AugmentationPolicy, factors_of, scale_odds


def test_log_probability_and_entropy_are_those_of_a_gaussian():
    policy = AugmentationPolicy(2, 0.5)
    with torch.no_grad():
        policy.mean.copy_(torch.tensor([0.1, -0.2, 0.0, 1.0]))
    reference = torch.distributions.MultivariateNormal(policy.mean.detach(), 0.25 * torch.eye(4))
    action, log_probability = policy.act()
    torch.testing.assert_close(log_probability, reference.log_prob(action))
    actions = torch.randn(5, 4)
    found, entropy = policy.evaluate({}, actions)
    torch.testing.assert_close(found, reference.log_prob(actions))
    torch.testing.assert_close(entropy, reference.entropy().expand(5))
    (gradient,) = torch.autograd.grad(found.sum(), policy.mean)
    torch.testing.assert_close(gradient, ((actions - policy.mean.detach()) / 0.25).sum(0))


def test_an_action_of_0_is_nnunets_own_setting_to_the_last_digit():
    assert torch.equal(factors_of(torch.zeros(6), 10.0, 2.0), torch.ones(2, 3, dtype=torch.float64))
    for probability in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 1 / 3):
        assert scale_odds(probability, 1.0) == probability


def test_factors_stay_between_the_limits_and_their_inverses():
    factors = factors_of(torch.tensor([-1e3, 0.5, 1e3, -1e3, 0.5, 1e3]), 10.0, 2.0)
    tanh = torch.tensor(0.5, dtype=torch.float64).tanh()
    expected = torch.tensor([[0.1, 10**tanh, 10], [0.5, 2**tanh, 2]], dtype=torch.float64)
    torch.testing.assert_close(factors, expected)


@pytest.mark.parametrize("factor", [0.0, 0.1, 3.0, 10.0])
def test_odds_are_scaled(factor):
    probability = scale_odds(0.25, factor)
    assert probability / (1 - probability) == pytest.approx(factor / 3)
    assert scale_odds(0.0, factor) == 0
    if factor:
        assert scale_odds(1.0, factor) == pytest.approx(1)
