"""Erased images have blank values, and no channel of them is taken for absent."""

import pytest
import torch

from rl_nnunet.presence.erasing import erase
from rl_nnunet.presence.patches import absent_channels, present_groups

BLANK = torch.tensor([0.0, -0.7, 0.0])


def test_what_is_erased_has_the_blank_value_and_the_rest_stays():
    x = torch.randn(2, 3, 6, 6)
    erased = torch.rand(2, 2, 6, 6) < 0.5
    result = erase(x, erased, [[0, 1], [2]], BLANK)
    for channel, group in enumerate((0, 0, 1)):
        mask = erased[:, group]
        assert torch.equal(result[:, channel][~mask], x[:, channel][~mask])
        assert (result[:, channel][mask] == BLANK[channel]).all()


def test_channels_of_no_group_stay():
    x = torch.randn(1, 3, 4, 4)
    result = erase(x, torch.ones(1, 1, 4, 4, dtype=torch.bool), [[0, 1]], BLANK)
    assert torch.equal(result[:, 2], x[:, 2])


def test_a_fully_erased_channel_keeps_the_voxel_that_deviates_most():
    x = torch.tensor([[[[0.1, -3.0], [0.0, 2.0]]]])
    result = erase(x, torch.ones(1, 1, 2, 2, dtype=torch.bool), [[0]], torch.zeros(1))
    assert torch.equal(result, torch.tensor([[[[0.0, -3.0], [0.0, 0.0]]]]))


@pytest.mark.parametrize("groups", [[[0], [1, 2]], [[0, 1, 2]]])
@pytest.mark.parametrize("share", [0.5, 0.98, 1.0])
def test_what_is_present_stays_present_and_what_is_absent_absent(groups, share):
    """By the rule of the networks, with scans of which a part is background, or that are absent."""
    branches = [[0], [1, 2]]
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 3, 5, 5, 5, generator=generator)
        x = torch.where(torch.rand(4, 1, 5, 5, 5, generator=generator) < 0.5, BLANK.view(1, 3, 1, 1, 1), x)
        x[0, 0], x[1, 1:] = 0, BLANK[1:].view(2, 1, 1, 1)
        erased = torch.rand(4, len(groups), 5, 5, 5, generator=generator) < share
        result = erase(x, erased, groups, BLANK)
        before, after = (present_groups(absent_channels(each, branches, BLANK), branches) for each in (x, result))
        assert torch.equal(before, after)
        assert not before.all()


def test_air_that_is_partly_erased_is_left_alone():
    """A patch of nothing but air is constant before; it does not become so."""
    x = torch.full((1, 1, 4, 4), -2.0)
    erased = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    erased[..., :2] = True
    assert (erase(x, erased, [[0]], torch.zeros(1)) != 0).sum() == 8
