"""Surface distances against brute force: every voxel, every neighbor, every pair."""

import itertools

import numpy as np
import pytest

from rl_nnunet.evaluation.report.distances import METRICS, compare_masks

TOLERANCE = 1.5


def surface_points(mask, spacing):
    """Return the positions in mm of the voxels with a face that is not shared with another voxel of the mask."""
    points = []
    axes = [axis for axis, extent in enumerate(mask.shape) if extent > 1]
    for index in map(tuple, np.argwhere(mask)):
        neighbors = []
        for axis, step in itertools.product(axes, (-1, 1)):
            beside = list(index)
            beside[axis] += step
            inside = 0 <= beside[axis] < mask.shape[axis]
            neighbors.append(inside and mask[tuple(beside)])
        if not all(neighbors):
            points.append(np.multiply(index, spacing))
    return np.array(points)


def brute_force(reference, prediction, spacing):
    one, other = surface_points(reference, spacing), surface_points(prediction, spacing)
    pairs = np.array([[np.linalg.norm(a - b) for b in other] for a in one])
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    both = [*there, *back]
    return {
        "dice": 2 * np.logical_and(reference, prediction).sum() / (reference.sum() + prediction.sum()),
        "nsd": sum(distance <= TOLERANCE for distance in both) / len(both),
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "msd": sum(both) / len(both),
    }


def blob(shape, center, radius):
    return np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - np.array(center), axis=-1) < radius


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 1.3), (0.4, 3.0, 0.4)])
@pytest.mark.parametrize("seed", range(2))
def test_random_masks_of_anisotropic_voxels_are_those_of_brute_force(spacing, seed):
    generator = np.random.default_rng(seed)
    shape = (7, 9, 8)
    reference = blob(shape, (3, 4, 3), 3) ^ (generator.random(shape) < 0.02)
    prediction = blob(shape, (3, 5, 4), 3) ^ (generator.random(shape) < 0.02)
    found = compare_masks(reference, prediction, spacing, TOLERANCE)
    assert found == pytest.approx(brute_force(reference, prediction, spacing))


def test_masks_that_touch_the_border_of_the_image():
    reference, prediction = np.zeros((2, 4, 5, 6), bool)
    reference[:2, :, 2:], prediction[1:, :3, :] = True, True
    spacing = (3.0, 1.0, 0.5)
    found = compare_masks(reference, prediction, spacing, TOLERANCE)
    assert found == pytest.approx(brute_force(reference, prediction, spacing))


@pytest.mark.parametrize("axis", range(3))
def test_one_slice_is_an_image_of_two_dimensions(axis):
    flat = [blob((9, 8), (4, 4), 3), blob((9, 8), (5, 3), 2.5)]
    # nnU-Net gives the missing axis of a 2D image a spacing of 999.
    found = compare_masks(*(np.expand_dims(mask, axis) for mask in flat), np.insert([0.7, 2.0], axis, 999), TOLERANCE)
    assert found == pytest.approx(compare_masks(*flat, (0.7, 2.0), TOLERANCE))
    assert found == pytest.approx(brute_force(*flat, (0.7, 2.0)))


def test_equal_masks():
    mask = blob((6, 6, 6), (3, 3, 3), 2.5)
    assert compare_masks(mask, mask, (4, 1, 1), 0) == {"dice": 1, "nsd": 1, "hd95": 0, "msd": 0}


def test_single_voxels_lie_their_distance_in_mm_apart():
    one, other = np.zeros((2, 5, 5, 5), bool)
    one[0, 0, 0], other[2, 1, 0] = True, True
    distance = np.hypot(2 * 5.0, 1 * 0.5)
    found = compare_masks(one, other, (5.0, 0.5, 0.5), TOLERANCE)
    assert found == pytest.approx({"dice": 0, "nsd": 0, "hd95": distance, "msd": distance})
    assert compare_masks(one, other, (5.0, 0.5, 0.5), distance)["nsd"] == 1


def test_empty_masks():
    empty, some = np.zeros((4, 4, 4), bool), blob((4, 4, 4), (2, 2, 2), 1.5)
    both = compare_masks(empty, empty, (1, 1, 1), TOLERANCE)
    assert set(both) == set(METRICS)
    assert np.isnan(list(both.values())).all()
    for pair in ((empty, some), (some, empty)):
        one = compare_masks(*pair, (1, 1, 1), TOLERANCE)
        assert one["dice"] == one["nsd"] == 0
        assert np.isnan([one["hd95"], one["msd"]]).all()
