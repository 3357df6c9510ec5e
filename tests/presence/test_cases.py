"""Absent channels of raw images and preprocessed cases."""

import subprocess
import sys

import numpy as np
import pytest

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.presence.cases import branches_of_case, branches_with, constant_value

LAYOUT = BranchLayout((Branch("MRI", (0, 2)), Branch("CT", (1,))), "unpaired")


@pytest.mark.parametrize("value", [0.0, -1024.0, 7.5])
def test_a_raw_channel_of_one_value_has_it(value):
    channel = np.full((3, 4, 5), value, np.float32)
    assert constant_value(channel) == value
    channel[1, 2, 3] += 0.5
    assert constant_value(channel) is None


def test_a_branch_is_there_if_one_of_its_channels_is():
    assert branches_with(LAYOUT, [2]) == ("MRI",)
    assert branches_with(LAYOUT, [1, 0]) == ("MRI", "CT")
    assert branches_with(LAYOUT, []) == ()


def test_branches_of_a_preprocessed_case():
    data = np.random.default_rng(0).normal(size=(3, 40, 40, 40)).astype(np.float32)
    assert branches_of_case(data, LAYOUT) == ("MRI", "CT")
    data[1] = -2 + 1e-7 * data[1]  # as resampling leaves it
    assert branches_of_case(data, LAYOUT) == ("MRI",)
    data[2] = 0
    assert branches_of_case(data, LAYOUT) == ("MRI",)
    data[0] = 0
    assert branches_of_case(data, LAYOUT) == ()


def test_workers_that_look_at_raw_images_need_no_torch(tmp_path):
    """It would cost each of them seconds and some hundred MB."""
    script = "import sys, rl_nnunet.planners.case_examination; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
