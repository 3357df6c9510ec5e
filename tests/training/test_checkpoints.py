"""Checkpoints are read without running code that they bring along."""

import collections

import numpy as np
import pytest
import torch

from rl_nnunet.errors import InputError
from rl_nnunet.training.checkpoints import load_without_code


def test_tensors_numbers_of_numpy_and_containers_are_read(tmp_path):
    content = {
        "weights": torch.arange(3.0),
        "half": np.float32(0.5),
        "log": [np.float64(1.5), float("nan"), (1, "text", None)],
        "random": ("MT19937", np.arange(4, dtype=np.uint32), 3),
        "flag": np.bool_(True),
        "state": collections.OrderedDict(step=np.int64(3)),
    }
    torch.save(content, tmp_path / "file.pth")
    read = load_without_code(tmp_path / "file.pth", "cpu")
    assert read.keys() == content.keys()
    assert torch.equal(read["weights"], content["weights"])
    assert read["half"] == np.float32(0.5)
    assert read["log"][0] == 1.5
    assert np.isnan(read["log"][1])
    assert read["log"][2] == (1, "text", None)
    np.testing.assert_array_equal(read["random"][1], content["random"][1])
    assert read["flag"]
    assert read["state"] == content["state"]


def test_what_would_run_code_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(2), "trap": collections.deque}, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"file.pth holds more than numbers and text \(collections.deque\)"):
        load_without_code(tmp_path / "file.pth", "cpu")


def test_the_allowance_does_not_outlast_the_reading(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(np.float64(1), tmp_path / "file.pth")
    load_without_code(tmp_path / "file.pth", "cpu")
    assert set(torch.serialization.get_safe_globals()) == before
