"""Resizing a crop: means where it shrinks, linear in between where it grows, constants and labels as they are."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from rl_nnunet.dataloading.resize import Resize, resize


def test_axes_that_shrink_are_averaged():
    image = torch.randn(2, 8, 6, 4)
    expected = image.numpy().reshape(2, 4, 2, 3, 2, 2, 2).mean((2, 4, 6))
    np.testing.assert_allclose(resize(image, [4, 3, 2]), expected, atol=1e-6)


def test_axes_that_grow_are_interpolated():
    image = torch.randn(1, 5, 7)
    expected = zoom(image[0].numpy(), (2, 3), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize(image, [10, 21])[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 9, 2), (1, 1, 1)])
def test_a_constant_channel_stays_constant(shape):
    resized = resize(torch.full((1, *shape), -1.25), [4, 4, 4])
    assert resized.shape == (1, 4, 4, 4)
    torch.testing.assert_close(resized, torch.full_like(resized, -1.25))


def test_labels_stay_labels():
    labels = torch.randint(-1, 3, (1, 5, 9), dtype=torch.int16)
    result = Resize([8, 8])(image=torch.randn(3, 5, 9), segmentation=labels)
    assert result["image"].shape == (3, 8, 8)
    assert result["segmentation"].dtype == torch.int16
    assert set(result["segmentation"].unique().tolist()) <= set(labels.unique().tolist())
