"""Absent channels stay blank through augmentation, whatever it adds."""

import pytest
import torch

from rl_nnunet.dataloading.keep_blank import KeepBlank


def add_noise(image, segmentation):
    return {"image": image + torch.rand_like(image) + 0.1, "segmentation": segmentation}


@pytest.mark.parametrize("shape", [(6, 6), (4, 5, 6)])
def test_blank_channels_become_zero_and_constant_ones_do_not(shape):
    image = torch.randn(4, *shape)
    image[1] = 0
    image[2] = -1.25 + 1e-7 * torch.randn(shape)
    image[3] = -0.5  # the background of a real image, which prediction meets, too
    result = KeepBlank(add_noise, (0.0, 0.0, -1.25, 0.0))(image=image, segmentation=torch.ones(1, *shape))
    assert [bool((channel == 0).all()) for channel in result["image"]] == [False, True, True, False]
    assert (result["image"][[0, 3]] > image[[0, 3]]).all()
    assert (result["segmentation"] == 1).all()


def test_a_blank_channel_beside_padding_becomes_zero():
    """nnU-Net pads with 0 where a patch leaves the image; the blank value of CT is another one."""
    image = torch.randn(2, 6, 6)
    image[0] = -1.25
    image[:, :2] = 0
    result = KeepBlank(add_noise, (-1.25, 0.0))(image=image, segmentation=torch.ones(1, 6, 6))
    assert (result["image"][0] == 0).all()
    assert (result["image"][1] != 0).any()
