"""Plackett-Luce against enumeration of all ordered draws, sequential softmaxes and sampling frequencies."""

import itertools
import math

import pytest
import torch
from scipy import stats

from rl_nnunet.policies.plackett_luce import draw, entropy, log_probability


def sequential_probability(logits: torch.Tensor, order: tuple[int, ...]) -> float:
    """Multiply the softmaxes over what remains, one draw after the other."""
    weights = logits.double().exp().tolist()
    remaining, probability = set(range(len(weights))), 1.0
    for index in order:
        probability *= weights[index] / sum(weights[i] for i in remaining)
        remaining.remove(index)
    return probability


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_probabilities_are_products_of_softmaxes_and_sum_to_one(k):
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0)) * 2
    draws = list(itertools.permutations(range(5), k))
    probabilities = log_probability(logits, torch.tensor(draws)).exp()
    expected = torch.tensor([sequential_probability(logits, order) for order in draws])
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-8)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)


def test_draws_have_their_probabilities():
    logits = torch.tensor([0.0, 1.0, -0.5, 0.3])
    samples = draw(logits.expand(20000, 4), 2, generator=torch.Generator().manual_seed(1))
    orders = list(itertools.permutations(range(4), 2))
    codes = samples[:, 0] * 4 + samples[:, 1]
    observed = [(codes == a * 4 + b).sum().item() for a, b in orders]
    expected = [20000 * sequential_probability(logits, order) for order in orders]
    assert sum(observed) == 20000  # never the same alternative twice
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_most_probable_draw_is_the_mode_and_deterministic():
    logits = torch.tensor([0.1, 2.0, -1.0, 0.7])
    draws = torch.tensor(list(itertools.permutations(range(4), 3)))
    mode = draws[log_probability(logits, draws).argmax()]
    assert torch.equal(draw(logits, 3, most_probable=True), mode)
    assert draw(torch.zeros(24), 4, most_probable=True).tolist() == [0, 1, 2, 3]


def test_draw_follows_the_generator_and_the_global_seed():
    logits = torch.zeros(3, 24)
    first = draw(logits, 4, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first, draw(logits, 4, generator=torch.Generator().manual_seed(5)))
    torch.manual_seed(7)
    first = draw(logits, 4)
    torch.manual_seed(7)
    assert torch.equal(first, draw(logits, 4))
    assert first.shape == (3, 4)
    assert first.dtype == torch.int64


def test_leading_axes_broadcast():
    logits, indices = torch.randn(2, 1, 6), torch.stack([torch.randperm(6)[:3] for _ in range(4)])
    together = log_probability(logits, indices)
    assert together.shape == (2, 4)
    for i, j in itertools.product(range(2), range(4)):
        torch.testing.assert_close(together[i, j], log_probability(logits[i, 0], indices[j]))
    assert log_probability(logits[0, 0], indices[0]).shape == ()


def test_stable_for_large_logits():
    logits = torch.tensor([1e4, 0.0, -1e4])
    torch.testing.assert_close(log_probability(logits, torch.tensor([0, 1, 2])), torch.tensor(0.0))
    torch.testing.assert_close(log_probability(logits, torch.tensor([2, 1])), torch.tensor(-3e4))
    torch.testing.assert_close(
        log_probability(logits + 1e4, torch.tensor([1])), log_probability(logits, torch.tensor([1]))
    )


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(24)
    indices = draw(logits.half(), 4)
    result = log_probability(logits.half(), indices)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, log_probability(logits.half().float(), indices))
    assert entropy(logits.half()).dtype == torch.float32


@pytest.mark.parametrize("k", [1, 3, 5])
def test_gradient(k):
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    indices = draw(logits, k)
    assert torch.autograd.gradcheck(lambda x: log_probability(x, indices), logits)
    assert torch.autograd.gradcheck(entropy, logits)


def test_expected_score_is_zero():
    """The defining property of a likelihood that PPO relies on: E[grad log p] = 0."""
    logits = torch.randn(4, dtype=torch.float64, requires_grad=True)
    draws = torch.tensor(list(itertools.permutations(range(4), 2)))
    log_p = log_probability(logits, draws)
    (log_p.detach().exp() * log_p).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_entropy_of_the_first_draw():
    logits = torch.randn(3, 24)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy(logits), expected)
    assert entropy(torch.zeros(24)).item() == pytest.approx(math.log(24))
    assert entropy(torch.tensor([1000.0, 0.0])).item() == 0


def test_a_repeated_index_is_impossible():
    assert log_probability(torch.zeros(4), torch.tensor([1, 1])).item() == -math.inf


def test_bad_shapes_are_refused():
    for k in (0, 5):
        with pytest.raises(ValueError, match="without replacement"):
            draw(torch.zeros(4), k)
    with pytest.raises(ValueError, match="without replacement"):
        log_probability(torch.zeros(2), torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="scalar"):
        entropy(torch.tensor(1.0))
    with pytest.raises(ValueError, match="integer indices"):
        log_probability(torch.zeros(4), torch.tensor([0.0]))
    with pytest.raises(ValueError, match="do not broadcast"):
        log_probability(torch.zeros(3, 4), torch.zeros(2, 1, dtype=torch.long))
