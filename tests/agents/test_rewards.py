"""The probability of the true label and the overlap of labels against loops over voxels and classes."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from rl_nnunet.agents.rewards import (
    anatomical_similarities,
    center_on_foreground,
    label_cube,
    label_overlap,
    sample_labels,
    true_label_probability,
)
from rl_nnunet.policies.rotations import inverse, rotate, rotation_matrices


def by_hand(logits, target, ignore=None):
    """Softmax of one sample, voxel by voxel; mean per class, then over the classes that occur."""
    per_class = {}
    for position in range(target.numel()):
        label = target.flatten()[position].item()
        if label == ignore:
            continue
        scores = logits.flatten(1)[:, position].tolist()
        probability = math.exp(scores[label]) / sum(map(math.exp, scores))
        per_class.setdefault(label, []).append(probability)
    means = [sum(values) / len(values) for values in per_class.values()]
    return sum(means) / len(means) if means else 0.0


@pytest.mark.parametrize("ignore", [None, 3])
def test_labels(ignore):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 3, 4, 5), torch.randint(4 if ignore else 3, (3, 1, 4, 5))
    target[1] = 0
    result = true_label_probability(logits, target, ignore_label=ignore)
    expected = [by_hand(one, label, ignore) for one, label in zip(logits, target, strict=True)]
    torch.testing.assert_close(result, torch.tensor(expected))


def test_all_ignored_is_zero():
    assert true_label_probability(torch.randn(1, 2, 3, 3), torch.full((1, 1, 3, 3), 2), ignore_label=2).tolist() == [0]


@pytest.mark.parametrize("ignore", [None, 4])
def test_regions(ignore):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 4, 4)
    target = (torch.rand(2, 3 if ignore else 2, 4, 4) < 0.4).float()
    target[0, 1] = 0  # a region that does not occur
    result = true_label_probability(logits, target, regions=True, ignore_label=ignore)
    for sample in range(2):
        means = []
        for region in range(2):
            for truth in (0, 1):
                values = [
                    torch.sigmoid(logit if truth else -logit).item()
                    for logit, inside, ignored in zip(
                        logits[sample, region].flatten(), target[sample, region].flatten(),
                        target[sample, 2].flatten() if ignore else torch.zeros(16), strict=True,
                    )
                    if inside == truth and not ignored
                ]  # fmt: skip
                means += [sum(values) / len(values)] if values else []
        assert result[sample].item() == pytest.approx(sum(means) / len(means), abs=1e-6)


def test_certain_and_right_is_one():
    target = torch.randint(3, (2, 1, 4, 4, 4))
    logits = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1) * 100.0
    torch.testing.assert_close(true_label_probability(logits, target), torch.ones(2))


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


def test_label_maps_of_unequal_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        label_overlap(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5))


@pytest.mark.parametrize("dimension", [2, 3])
def test_similarity_is_greatest_for_the_rotation_that_was_undone(dimension):
    torch.manual_seed(0)
    count = len(rotation_matrices(dimension))
    labels = label_cube(torch.randint(0, 4, (1, 1, *[16] * dimension)), 3).expand(count, -1, *[-1] * dimension)
    turned = torch.stack([rotate(x, inverse(r, dimension), dimension) for r, x in enumerate(labels)])
    similarities = anatomical_similarities(labels, turned)
    torch.testing.assert_close(similarities.diagonal(), label_overlap(labels, labels))
    others = similarities[~torch.eye(count, dtype=torch.bool)]
    assert others.max() < 0.7 * similarities.diagonal().min()


def test_similarities_are_the_overlaps_after_each_rotation_of_the_auxiliary_cube():
    main, auxiliary = torch.rand(2, 5, 3, 4, 4, 4)
    similarities = anatomical_similarities(main, auxiliary)
    assert similarities.shape == (5, 24)
    for rotation in range(24):
        turned = torch.stack([rotate(x, rotation, 3) for x in auxiliary])
        torch.testing.assert_close(similarities[:, rotation], label_overlap(main, turned))


@pytest.mark.parametrize("spatial", [(12, 15), (8, 9, 10)])
def test_centering_is_a_shift_by_scipys_center_of_mass(spatial):
    torch.manual_seed(0)
    maps = torch.zeros(3, 2, *spatial)
    for sample in range(2):  # the third has no foreground
        corner = [int(torch.randint(2, extent - 4, ())) for extent in spatial]
        maps[(sample, slice(None), *(slice(c, c + 2) for c in corner))] = torch.rand(2, *[2] * len(spatial))
    centered = center_on_foreground(maps)
    for before, after in zip(maps[:2].double().numpy(), centered, strict=False):
        mass = ndimage.center_of_mass(before.sum(0))
        shift = [(extent - 1) / 2 - m for extent, m in zip(spatial, mass, strict=True)]
        expected = [ndimage.shift(one, shift, order=1, mode="grid-constant") for one in before]
        torch.testing.assert_close(after.double(), torch.tensor(np.stack(expected)), rtol=0, atol=1e-5)
    assert centered[2].abs().sum() == 0


def test_a_structure_has_one_cube_wherever_it_lies():
    torch.manual_seed(0)
    structure = torch.randint(0, 4, (9, 10, 11))
    cubes = []
    for corner in ((0, 0, 0), (6, 4, 8), (22, 20, 20)):
        labels = torch.zeros(1, 1, 32, 32, 32, dtype=torch.int16)
        labels[(0, 0, *(slice(c, c + n) for c, n in zip(corner, structure.shape, strict=True)))] = structure.short()
        cubes.append(label_cube(labels, 3))
    for cube in cubes[1:]:
        torch.testing.assert_close(cube, cubes[0], rtol=0, atol=1e-4)


def test_label_cube_of_classes_leaves_background_and_ignore_out():
    labels = torch.zeros(1, 1, 16, 16)
    labels[..., 4:12, 2:14] = 2
    labels[..., :2, :4] = 3  # the ignore label of two classes
    cube = label_cube(labels, 2)
    assert cube.shape == (1, 2, 16, 16)
    assert cube[:, 0].sum() == 0
    torch.testing.assert_close(cube[:, 1], (labels == 2)[:, 0].float(), rtol=0, atol=1e-5)


def test_label_cube_takes_regions_as_they_are():
    half = torch.rand(2, 3, 16, 16, 8).round()
    regions = torch.cat((half, half.flip(4)), dim=4)
    regions = torch.maximum(regions, regions.flip((2, 3)))  # symmetric, so that its center is the middle
    torch.testing.assert_close(label_cube(regions, None), regions, rtol=0, atol=1e-4)


def test_label_cube_of_a_large_patch():
    labels = torch.ones(1, 1, 80, 40, 8)
    torch.testing.assert_close(label_cube(labels, 1), torch.ones(1, 1, 16, 16, 16))


@pytest.mark.parametrize("spatial", [(80, 40), (50, 33, 8)])
def test_sampled_labels_are_those_of_torchs_interpolation(spatial):
    labels = torch.randint(0, 9, (2, 1, *spatial), dtype=torch.int16)
    size = [min(extent, 32) for extent in spatial]
    expected = functional.interpolate(labels.float(), size, mode="nearest-exact").short()
    assert torch.equal(sample_labels(labels), expected)
