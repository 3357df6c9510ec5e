"""Cells, their logits, and the distribution over masks against torch's own."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent

from rl_nnunet.policies.mask import MaskPolicy, cell_edges, draw, entropy, log_probability, thresholded


@pytest.mark.parametrize(
    ("patch_size", "spacing", "cells", "expected"),
    [
        ((32, 32), (1.0, 1.0), 8, (4, 4)),
        ((28, 28), (1.0, 1.0), 8, (4, 4)),  # 3.5 voxels
        ((64, 128, 128), (1.0, 1.0, 1.0), 8, (16, 16, 16)),
        ((16, 128, 128), (5.0, 0.5, 0.5), 8, (2, 20, 20)),  # 80 mm along the slices are the longest axis
        ((2, 128, 128), (1.0, 1.0, 1.0), 8, (2, 16, 16)),  # not larger than the patch
        ((8, 8, 8), (1.0, 1.0, 1.0), 100, (1, 1, 1)),
        ((8, 8, 8), (3.0, 1.0, 1.0), None, (1, 1, 1)),
    ],
)
def test_cells_are_as_long_along_every_axis_as_the_voxels_allow(patch_size, spacing, cells, expected):
    assert cell_edges(patch_size, spacing, cells) == expected


@pytest.mark.parametrize(
    ("patch_size", "edges", "grid"),
    [((28, 28), (4, 4), (7, 7)), ((10, 24, 21), (10, 4, 4), (1, 6, 6)), ((5, 6, 7), (1, 1, 1), (5, 6, 7))],
)
def test_every_cell_has_a_logit_and_every_voxel_that_of_its_cell(patch_size, edges, grid):
    policy = MaskPolicy(2, patch_size, edges)
    logits = policy(torch.randn(3, 2, *patch_size))
    assert policy.grid == grid
    assert logits.shape == (3, *grid)
    voxels = policy.to_voxels(logits)
    assert voxels.shape == (3, *patch_size)
    for voxel in [(0,) * len(grid), tuple(size - 1 for size in patch_size), tuple(size // 2 for size in patch_size)]:
        cell = tuple(index // edge for index, edge in zip(voxel, edges, strict=True))
        assert torch.equal(voxels[(slice(None), *voxel)], logits[(slice(None), *cell)])


def test_a_new_policy_is_undecided():
    for seed in range(10):
        torch.manual_seed(seed)
        probabilities = torch.sigmoid(MaskPolicy(1, (32, 32), (4, 4))(torch.randn(8, 1, 32, 32)))
        assert 0.1 < probabilities.detach().mean() < 0.9


def test_the_smaller_last_cell_is_no_darker_than_the_others():
    """Its average is over the voxels that it has."""
    policy = MaskPolicy(1, (10,) * 2, (4, 4))
    policy.stem = torch.nn.Identity()
    policy.unet = torch.nn.Identity()
    cells = policy(torch.ones(1, 1, 10, 10))
    assert torch.equal(cells, torch.ones(1, 3, 3))


def test_probability_and_entropy_are_those_of_independent_cells():
    logits, actions = torch.randn(5, 4, 3), torch.rand(5, 4, 3) < 0.5
    reference = Independent(Bernoulli(logits=logits), 2)
    torch.testing.assert_close(log_probability(logits, actions), reference.log_prob(actions.float()))
    torch.testing.assert_close(entropy(logits), reference.entropy())


def test_draws_have_the_probability_of_the_logit_and_the_threshold_is_a_half():
    logits = torch.tensor([-30.0, -1.0, 0.5, 30.0])
    drawn = torch.stack([draw(logits) for _ in range(4000)]).float().mean(0)
    torch.testing.assert_close(drawn, torch.sigmoid(logits), atol=0.04, rtol=0)
    assert thresholded(logits).tolist() == [False, False, True, True]
