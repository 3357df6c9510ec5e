"""The agent's similarity against loops over classes and positions."""

import pytest
import torch
from torch.nn import functional

from rl_nnunet.losses.similarity import feature_cosine, label_overlap


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Foreground channels of a label map (L, *spatial)."""
    return functional.one_hot(labels, classes + 1).movedim(-1, 1)[:, 1:].float()


@pytest.mark.parametrize("spatial", [(5, 6), (3, 4, 5)])
def test_label_overlap_is_the_mean_dice_of_the_classes_that_occur(spatial):
    torch.manual_seed(0)
    a, b = torch.randint(0, 4, (3, *spatial)), torch.randint(0, 4, (3, *spatial))
    b[1][b[1] == 3] = 0
    a[1][a[1] == 3] = 0  # class 3 occurs in neither map of the second pair
    a[2][a[2] == 2] = 0  # class 2 in only one map of the third
    expected = []
    for x, y in zip(a, b, strict=True):
        dice = []
        for label in (1, 2, 3):
            if (x == label).any() or (y == label).any():
                both = ((x == label) & (y == label)).sum()
                dice.append(2 * both / ((x == label).sum() + (y == label).sum()))
        expected.append(torch.stack(dice).mean())
    torch.testing.assert_close(label_overlap(one_hot(a, 3), one_hot(b, 3)), torch.stack(expected))


def test_label_overlap_at_the_ends_of_its_range():
    labels = one_hot(torch.tensor([[[1, 1], [2, 0]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]), 2)
    other = one_hot(torch.tensor([[[1, 1], [2, 0]], [[0, 0], [0, 0]], [[2, 2], [2, 2]]]), 2)
    assert label_overlap(labels, other).tolist() == [1, 0, 0]  # equal, no foreground, disjoint


def test_label_overlap_is_symmetric_and_bounded_for_soft_labels():
    a, b = torch.rand(4, 3, 5, 5, 5), torch.rand(4, 3, 5, 5, 5)
    overlap = label_overlap(a, b)
    torch.testing.assert_close(overlap, label_overlap(b, a))
    assert ((overlap >= 0) & (overlap <= 1)).all()


def test_label_overlap_of_a_large_map_does_not_overflow_in_half_precision():
    labels = torch.ones(1, 1, 64, 64, 32, dtype=torch.float16)
    overlap = label_overlap(labels, labels)
    assert overlap.dtype == torch.float32
    assert overlap.item() == 1


def test_feature_cosine_is_the_mean_over_positions():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 3, 4), torch.randn(2, 6, 3, 4)
    for i in range(2):
        cosines = [
            torch.dot(a[i, :, y, x], b[i, :, y, x]) / (a[i, :, y, x].norm() * b[i, :, y, x].norm())
            for y in range(3)
            for x in range(4)
        ]
        torch.testing.assert_close(feature_cosine(a, b)[i], torch.stack(cosines).mean())


def test_feature_cosine_range_and_zero_maps():
    a = torch.randn(2, 4, 3, 3, 3)
    torch.testing.assert_close(feature_cosine(a, 3 * a), torch.ones(2))
    torch.testing.assert_close(feature_cosine(a, -a), -torch.ones(2))
    assert feature_cosine(a, torch.zeros_like(a)).tolist() == [0, 0]
    assert feature_cosine(a.half(), a.half()).dtype == torch.float32


def test_unequal_maps_are_refused():
    for function in (label_overlap, feature_cosine):
        with pytest.raises(ValueError, match="one shape"):
            function(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5))
        with pytest.raises(ValueError, match="one shape"):
            function(torch.zeros(2, 3), torch.zeros(2, 3))
