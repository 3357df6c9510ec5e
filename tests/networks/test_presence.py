"""Which branches are there, and withholding them."""

import pytest
import torch

from rl_nnunet.networks.presence import present_groups, rows_of, withhold


def test_blank_groups_are_absent():
    x = torch.randn(4, 3, 4, 4)
    blank = torch.tensor([0.0, -1.5, 0.0])
    x[0, 1] = -1.5
    x[0, 1, :2] = 0  # padding
    x[1, [0, 2]] = 0
    x[2, 2] = 0  # one channel of a group is enough
    x[3] = 0  # nothing there: everything counts
    present = present_groups(x, [[0, 2], [1]], blank)
    assert present.tolist() == [[True, False], [False, True], [True, True], [True, True]]
    assert rows_of(present) == [[0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_withheld_is_one_of_those_present_and_never_the_last(probability):
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]]).repeat(300, 1)
    kept = withhold(present, probability)
    assert not (kept & ~present).any()
    lost = (present & ~kept).sum(1).view(300, 3)
    assert lost.max() <= 1
    assert lost[:, 2].max() == 0
    assert lost[:, :2].float().mean().item() == pytest.approx(probability, abs=0.05)
    if probability == 1:
        share = (~kept).view(300, 3, 3)[:, 0].float().mean(0)
        torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.08, rtol=0)
