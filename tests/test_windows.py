"""Windows between the voxels of an image, against SciPy's interpolation."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from scipy.ndimage import shift

from rl_nnunet.windows import BetweenVoxels, LabelsBetweenVoxels, corresponding_window, interpolated_axes

OFFSETS = [(0.0, 0.0, 0.0), (0.5, -0.25, 0.0), (-0.49, 0.0, 0.3), (0.1, 0.2, -0.3)]


@pytest.fixture(params=[np.asarray, torch.from_numpy], ids=["array", "tensor"])
def image(request):
    return request.param(np.random.default_rng(0).normal(size=(2, 7, 6, 5)).astype(np.float32))


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_region_is_that_of_the_shifted_image(image, offset):
    shifted = np.stack([shift(channel, np.negative(offset), order=1, mode="nearest") for channel in np.asarray(image)])
    view = BetweenVoxels(image, offset)
    for region in [(slice(0, 7), slice(0, 6), slice(0, 5)), (slice(2, 5), slice(0, 1), slice(4, 5))]:
        found = view[(slice(None), *region)]
        assert type(found) is type(image)
        assert found.dtype == image.dtype
        np.testing.assert_allclose(found, shifted[(slice(None), *region)], atol=1e-6)


def test_only_what_is_needed_is_read():
    class Counting(np.ndarray):
        read = 0

        def __getitem__(self, item):
            result = np.asarray(self)[item]
            Counting.read += result.size
            return result

    view = BetweenVoxels(np.zeros((1, 50, 50, 50), np.float32).view(Counting), (0.5, -0.5, 0.0))
    view[slice(None), slice(10, 14), slice(20, 24), slice(30, 34)]
    assert Counting.read == 5 * 5 * 4


def test_a_constant_stays_exactly_what_it_is():
    """What is absent is told by it."""
    blank = torch.full((1, 6, 6, 6), -0.7235172986984253)
    assert torch.equal(
        BetweenVoxels(blank, (0.3, 0.17, -0.4))[(slice(None), *[slice(1, 5)] * 3)], blank[:, 1:5, 1:5, 1:5]
    )


def test_beyond_the_image_lies_padding(image):
    """Cropped as nnU-Net crops: the last voxels go on to their ends, and nothing of the padding gets into them."""
    view = BetweenVoxels(image, (0.0, 0.0, 0.4))
    cropped = crop_and_pad_nd(view, [[0, 7], [0, 6], [-2, 7]], 0)
    assert not np.asarray(cropped)[..., [0, 1, -2, -1]].any()
    np.testing.assert_array_equal(cropped[..., 6], image[..., 4])


@pytest.mark.parametrize("offset", OFFSETS)
def test_labels_are_those_of_itk(offset):
    labels = np.random.default_rng(1).integers(-1, 4, (1, 9, 8, 7)).astype(np.int16)
    image = sitk.GetImageFromArray(labels[0])
    moved = sitk.TranslationTransform(3, offset[::-1])
    expected = sitk.GetArrayFromImage(sitk.Resample(image, image, moved, sitk.sitkLabelLinear))
    votes = [shift(np.float64(labels[0] == one), np.negative(offset), order=1, mode="nearest") for one in range(-1, 4)]
    first, second = np.sort(votes, axis=0)[[-1, -2]]
    is_clear = first - second > 1e-6  # of labels that are as near, ITK takes any
    assert is_clear.mean() > 0.4
    found = LabelsBetweenVoxels(labels, offset)[:, 1:8, 1:7, 1:6]
    assert found.dtype == labels.dtype
    assert found[0][is_clear[1:8, 1:7, 1:6]].tolist() == expected[1:8, 1:7, 1:6][is_clear[1:8, 1:7, 1:6]].tolist()


def test_the_nearest_label_is_taken_where_several_are_as_near():
    labels = np.array([3, 1, 1, 2], np.int16).reshape(1, 1, 1, 4)
    assert LabelsBetweenVoxels(labels, (0, 0, 0.5))[:, :, :, 0:4].ravel().tolist() == [3, 1, 1, 2]
    assert LabelsBetweenVoxels(labels, (0, 0, -0.5))[:, :, :, 0:4].ravel().tolist() == [3, 1, 1, 2]
    assert LabelsBetweenVoxels(labels, (0, 0, 0.6))[:, :, :, 0:4].ravel().tolist() == [1, 1, 2, 2]


def test_the_window_is_nearest_and_the_offset_what_is_left():
    to_index = np.eye(4)
    to_index[:3, 3] = (2.3, -1.6, 0.5)
    window = corresponding_window(to_index, np.array([1, 2, 3]), np.array([4, 4, 4]), np.array([True, True, False]))
    assert window.start.tolist() == [3, 0, 4]
    np.testing.assert_allclose(window.offset, [0.3, 0.4, 0.0])


def test_scans_on_one_grid_need_no_interpolation():
    to_index = np.eye(4)
    to_index[:3, 3] = (1e-15, -1e-12, 3 + 1e-9)
    window = corresponding_window(to_index, np.zeros(3), np.array([4, 4, 4]), np.ones(3, bool))
    assert window.offset.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((1.0, 1.0, 1.0), [True, True, True]),
        ((3.0, 1.0, 1.0), [True, True, True]),
        ((8.0, 1.5, 1.5), [False, True, True]),
        ((1.0, 1.0, 5.0), [True, True, False]),
        ((1.5, 1.5), [False, True, True]),
    ],
)
def test_slices_are_no_place_to_read_between(spacing, expected):
    assert interpolated_axes(spacing).tolist() == expected
