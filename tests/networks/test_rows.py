"""Samples out of a batch and back into it."""

import pytest
import torch

from rl_nnunet.networks.rows import place, take


@pytest.mark.parametrize("rows", [[0, 1, 2], [2], [0, 2]])
def test_what_is_taken_goes_back_to_its_place(rows):
    batch = torch.randn(3, 2, 4)
    taken = take(batch, rows)
    assert torch.equal(taken, batch[rows])
    back = place(taken, rows, 3)
    expected = torch.zeros(3, 2, 4)
    expected[rows] = batch[rows]
    assert torch.equal(back, expected)


def test_all_are_not_copied():
    batch = torch.randn(3, 2)
    assert take(batch, [0, 1, 2]) is batch
    assert place(batch, [0, 1, 2], 3) is batch
