"""Which branches are there."""

import warnings

import pytest
import torch

from rl_nnunet.presence import patches
from rl_nnunet.presence.patches import absent_channels, present_groups, rows_of, tell_present

BLANK = torch.tensor([0.0, -1.5, 0.0])
GROUPS, NAMES = [[0, 2], [1]], ["MRI", "CT"]


@pytest.mark.parametrize("is_training", [True, False])
def test_blank_groups_are_absent(is_training):
    x = torch.randn(4, 3, 4, 4)
    x[0, 1] = -1.5
    x[0, 1, :2] = 0  # padding
    x[1, [0, 2]] = 0
    x[2, 2] = 0  # one channel of a group is enough
    x[3] = 0  # nothing there: everything counts
    same, present = tell_present(x, GROUPS, BLANK, NAMES, is_training)
    assert present.tolist() == [[True, False], [False, True], [True, True], [True, True]]
    assert torch.equal(same, x)
    assert rows_of(present) == [[0, 2, 3], [1, 2, 3]]


def constant_samples():
    x = torch.randn(6, 3, 4, 4)
    x[0, 1] = -2.0 + 1e-7 * torch.randn(4, 4)  # CT filled with air
    x[1, 1] = -2.0
    x[1, :, :2] = 0  # beside padding
    x[2, [0, 2]] = 0.7  # both sequences of MRI
    x[3, 0] = 0.7  # one of them
    x[4, 1], x[4, [0, 2]] = -2.0, 0  # air beside an MRI that is absent: a patch of a CT alone
    x[5, 2], x[5, 1] = 0.7, -1.5  # in a CT that is absent, too: no other group varies
    return x


def test_what_is_constant_beside_another_group_is_absent_in_evaluation():
    expected = torch.zeros(6, 3, dtype=torch.bool)
    expected[[0, 1], 1] = True
    expected[2, [0, 2]] = True
    expected[3, 0] = True
    expected[4, [0, 2]] = True
    expected[5, 1] = True
    x = constant_samples()
    torch.testing.assert_close(absent_channels(x, GROUPS, BLANK), expected)
    blanked, present = tell_present(x, GROUPS, BLANK, NAMES, False)
    assert present.tolist() == [
        [True, False], [True, False], [False, True], [True, True], [False, True], [True, False]
    ]  # fmt: skip
    torch.testing.assert_close(present_groups(absent_channels(blanked, GROUPS, BLANK), GROUPS), present)
    assert (blanked[3, 0] == 0).all()
    untouched = ~expected[:, :, None, None].expand_as(x)
    assert torch.equal(blanked[untouched], x[untouched])


def test_what_is_constant_counts_where_only_blank_is_absent():
    x = constant_samples()
    same, present = tell_present(x, GROUPS, BLANK, NAMES, True)
    assert same is x
    assert present[:4].all()


def test_without_names_nothing_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_present(constant_samples()[:2], GROUPS, BLANK)


def test_a_constant_channel_is_told_once_with_its_name_and_the_remedy():
    patches._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            tell_present(constant_samples()[:2], GROUPS, BLANK, NAMES, False)
        tell_present(torch.randn(2, 3, 4, 4), GROUPS, BLANK, NAMES, False)
    assert len(caught) == 1
    assert "Channel 1 (CT) is constant" in str(caught[0].message)
    assert "fill the image with zeros" in str(caught[0].message)
