"""All random state of a training in one process, so that a resumed training draws what it would have drawn."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch

from rl_nnunet.environment import SEED_VARIABLE
from rl_nnunet.errors import InputError

LARGEST_SEED = 2**32 - 1
"""Numpy's."""


def seed_from_environment() -> int | None:
    """Return the seed of ``RL_NNUNET_SEED``; None where it is not set, or empty.

    Raises
    ------
    InputError
        If it is no seed of numpy's.
    """
    text = os.environ.get(SEED_VARIABLE, "").strip()
    if not text:
        return None
    is_seed = text.isascii() and text.isdigit() and len(text.lstrip("0")) <= len(str(LARGEST_SEED))
    if not is_seed or int(text) > LARGEST_SEED:
        raise InputError(f"{SEED_VARIABLE}={text} is no seed; give a whole number from 0 to {LARGEST_SEED}.")
    return int(text)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's (which nnU-Net's loader draws from) and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net's loader draws from the global generator
    torch.manual_seed(seed)


def get_random_state() -> dict[str, Any]:
    """Return the state of all generators."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `get_random_state` returned; CUDA's only where the same number of devices is there."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
