"""Several branches' labels in one tensor: what is joined comes apart again."""

import pytest
import torch

from rl_nnunet.targets import BranchTargets, finest, join_targets


@pytest.mark.parametrize("samples", [None, [0, 1, 2], [2], [2, 0]])
def test_what_is_joined_comes_apart_again(samples):
    """Two regions and three branches: six channels; with and without deep supervision."""
    branches = [[torch.randn(3, 2, size, size) for size in (4, 2)] for _ in range(3)]
    joined = join_targets(branches)
    assert [scale.shape[1] for scale in joined] == [6, 6]
    targets, rows = BranchTargets(3, are_joined=True), samples or [0, 1, 2]
    for branch, own in enumerate(branches):
        taken = targets.take(joined, branch, samples)
        assert all(torch.equal(x, y[rows]) for x, y in zip(taken, own, strict=True))
        assert torch.equal(targets.take(join_targets([b[0] for b in branches]), branch, samples), own[0][rows])
    assert torch.equal(finest(joined), joined[0])
    assert finest(joined[1]) is joined[1]


def test_a_shared_target_is_that_of_every_branch():
    target = torch.randn(3, 1, 4, 4)
    shared = BranchTargets(2, are_joined=False)
    assert shared.take(target, 1) is target
    assert torch.equal(shared.take(target, 1, [1]), target[1:2])
