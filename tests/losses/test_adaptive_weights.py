"""Eq. 18-19 of RL-U2Net: closed form for two branches, its generalization, averages, checkpoints and ranks."""

import math
import multiprocessing

import pytest
import torch
from torch import distributed

from rl_nnunet.losses.adaptive_weights import AdaptiveWeights, AdaptiveWeightsConfig, adaptive_weights

LAST_VALUE_ONLY = AdaptiveWeightsConfig(momentum=0.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("offset", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("slow", "fast"), [(0.9, 0.2), (0.35, 0.3), (-0.2, -0.8), (3.0, 0.0)])
def test_two_branches_follow_equations_18_and_19(slow, fast, temperature, offset):
    w = math.tanh(temperature * (slow - fast - offset))
    for losses, expected in (((slow, fast), (1 + w, 1 - w)), ((fast, slow), (1 - w, 1 + w))):
        weights = adaptive_weights(torch.tensor(losses), temperature, offset)
        torch.testing.assert_close(weights, torch.tensor(expected))


def test_equal_losses_and_a_single_branch_get_ones():
    assert adaptive_weights(torch.tensor([0.4, 0.4]), 1.0, 0.0).tolist() == [1, 1]
    assert adaptive_weights(torch.tensor([0.5, 0.5, 0.5, 0.5]), 5.0, 0.0).tolist() == [1] * 4
    assert adaptive_weights(torch.tensor([0.7]), 1.0, 0.3).tolist() == [1]


def test_more_branches_are_compared_with_the_mean_of_the_others():
    losses, temperature, offset = [0.9, 0.4, 0.5, 0.1], 2.0, 0.05
    raw = []
    for b, loss in enumerate(losses):
        others = losses[:b] + losses[b + 1 :]
        gap = loss - sum(others) / 3
        raw.append(1 + math.copysign(1, gap) * math.tanh(temperature * (abs(gap) - offset)))
    expected = [weight * 4 / sum(raw) for weight in raw]
    weights = adaptive_weights(torch.tensor(losses), temperature, offset)
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_weights_sum_to_n_and_rise_with_the_loss(n):
    torch.manual_seed(0)
    for _ in range(20):
        losses = torch.randn(n)
        weights = adaptive_weights(losses, 1.0, 0.0)
        assert weights.sum().item() == pytest.approx(n, rel=1e-5)
        assert (weights >= 0).all()
        assert torch.equal(weights.argsort(), losses.argsort())


def test_all_branches_saturated_at_zero_weigh_the_same():
    losses = torch.tensor([0.5, 0.5, -0.5])  # gaps 0.5, 0.5, -1: the slow below the offset, the fast above
    assert adaptive_weights(losses, 1e4, 0.7).tolist() == [1, 1, 1]


def test_offset_favors_the_fast_branch_below_it():
    """The property of eq. 18 for which the offset is 0 by default."""
    assert AdaptiveWeightsConfig().offset == 0
    slow, fast = adaptive_weights(torch.tensor([0.5, 0.45]), 1.0, 0.2).tolist()
    assert slow < 1 < fast


def test_weights_are_detached():
    losses = torch.tensor([0.3, 0.9], requires_grad=True)
    assert not adaptive_weights(losses, 1.0, 0.0).requires_grad
    assert not AdaptiveWeights(2).update({0: losses[0], 1: losses[1]}).requires_grad


def test_moving_average():
    agwd = AdaptiveWeights(2, AdaptiveWeightsConfig(temperature=2.0, momentum=0.8))
    steps = [(0.9, 0.5), (0.4, 0.6), (0.7, 0.1)]
    averages = list(steps[0])
    for step in steps:
        averages = [0.8 * a + 0.2 * loss for a, loss in zip(averages, step, strict=True)]
        w = math.tanh(2 * (averages[0] - averages[1]))
        weights = agwd.update({0: torch.tensor(step[0]), 1: step[1]})
        assert weights.tolist() == pytest.approx([1 + w, 1 - w], rel=1e-5)
        assert weights.dtype == torch.float32


def test_an_absent_branch_keeps_its_average():
    agwd = AdaptiveWeights(2, LAST_VALUE_ONLY)
    agwd.update({0: 0.5, 1: 0.8})
    w = math.tanh(0.8 - 0.1)
    assert agwd.update({0: 0.1}).tolist() == pytest.approx([1 - w, 1 + w], rel=1e-5)
    assert agwd.update({}).tolist() == pytest.approx([1 - w, 1 + w], rel=1e-5)


def test_a_branch_never_seen_does_not_count():
    agwd = AdaptiveWeights(3, LAST_VALUE_ONLY)
    assert agwd.update({}).tolist() == [1, 1, 1]
    assert agwd.update({2: 0.9}).tolist() == [1, 1, 1]
    w = math.tanh(0.9 - 0.4)
    assert agwd.update({0: 0.4}).tolist() == pytest.approx([1 - w, 1, 1 + w], rel=1e-5)


def test_an_overflow_is_not_remembered():
    agwd, clean = AdaptiveWeights(2), AdaptiveWeights(2)
    for losses in ({0: 0.5, 1: 0.8}, {0: 0.4, 1: 0.9}):
        agwd.update(losses)
        clean.update(losses)
        agwd.update({0: math.nan, 1: torch.tensor(math.inf)})
    assert torch.equal(agwd.update({}), clean.update({}))


def test_a_checkpoint_continues_where_it_stopped(tmp_path):
    agwd = AdaptiveWeights(3)
    agwd.update({0: 0.9, 1: 0.2})
    torch.save(agwd.state_dict(), tmp_path / "agwd.pth")
    restored = AdaptiveWeights(3)
    restored.load_state_dict(torch.load(tmp_path / "agwd.pth", weights_only=True))
    for losses in ({1: 0.5}, {2: 0.1, 0: 0.3}):
        assert torch.equal(agwd.update(losses), restored.update(losses))
    with pytest.raises(ValueError, match="3 branches, not of 2"):
        AdaptiveWeights(2).load_state_dict(agwd.state_dict())


def _run_rank(rank: int, store: str, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    agwd = AdaptiveWeights(3, LAST_VALUE_ONLY)
    # Branch 0 on both ranks, branch 1 on the first alone, branch 2 nowhere; then a rank without any.
    first = agwd.update({0: 0.2, 1: 0.9} if rank == 0 else {0: 0.6})
    second = agwd.update({} if rank == 0 else {1: 0.3})
    results.put((first.tolist(), second.tolist()))
    distributed.destroy_process_group()


def test_ranks_agree_on_the_mean_of_those_that_have_the_branch(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=_run_rank, args=(rank, str(tmp_path / "store"), results)) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = [results.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    assert answers[0] == answers[1]
    w = math.tanh(0.9 - (0.2 + 0.6) / 2)
    assert answers[0][0] == pytest.approx([1 - w, 1 + w, 1], rel=1e-5)
    w = math.tanh(0.4 - 0.3)
    assert answers[0][1] == pytest.approx([1 + w, 1 - w, 1], rel=1e-5)


def test_bad_arguments_are_refused():
    for name, value in (("temperature", -1.0), ("offset", -0.1), ("momentum", 1.0), ("momentum", -0.1)):
        with pytest.raises(ValueError, match=name):
            AdaptiveWeightsConfig(**{name: value})
    with pytest.raises(ValueError, match="at least one branch"):
        AdaptiveWeights(0)
    with pytest.raises(ValueError, match="no branch 2"):
        AdaptiveWeights(2).update({2: 0.1})
    for losses in (torch.tensor(1.0), torch.zeros(2, 2), torch.zeros(0)):
        with pytest.raises(ValueError, match="n_branches"):
            adaptive_weights(losses, 1.0, 0.0)
