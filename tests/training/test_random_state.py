"""What was drawn once is drawn again."""

import random

import numpy as np
import torch

from rl_nnunet.training.random_state import get_random_state, seed_everything, set_random_state


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - nnU-Net's generator


def test_seed_sets_all_generators():
    seed_everything(1)
    first = draw()
    seed_everything(2)
    other = draw()
    seed_everything(1)
    assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_state_makes_a_round_trip_through_a_file(tmp_path):
    draw()
    torch.save(get_random_state(), tmp_path / "state.pth")
    expected = draw(), draw()
    seed_everything(7)
    set_random_state(torch.load(tmp_path / "state.pth", weights_only=False))
    assert (draw(), draw()) == expected


def test_state_of_more_gpus_than_there_are_is_left_out():
    state = get_random_state()
    state["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)
    expected = draw()
    set_random_state(state)
    assert draw() == expected
