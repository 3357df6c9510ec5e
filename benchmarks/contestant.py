"""What the benchmarks of cost share: trainers on a batch that stays, the time of their steps and their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from workflow import Workplace

WARM_UP = 2
BATCHES = 8
"""Different ones of a rotating contestant."""


class Contestant:
    """A trainer with its network; a subclass gives it a batch.

    Parameters
    ----------
    place : Workplace
        Where the preprocessed data set is.
    dataset : str
        Name of the data set.
    trainer : type
        Class of the trainer.
    plans : dict
        What it trains on.
    configuration : str
        One of the plans.

    Attributes
    ----------
    batch : dict
        The batch of every step.
    """

    batch: dict[str, Any]

    def __init__(
        self,
        place: Workplace,
        dataset: str,
        trainer: type[nnUNetTrainer],
        plans: dict[str, Any],
        configuration: str = "3d_fullres",
    ) -> None:
        self.dataset_json = read_preprocessed(place, dataset, "dataset")
        self.device = torch.device(place.device)
        torch.manual_seed(0)
        with open(place.root / "log.txt", "a") as log, redirect_stdout(log):
            plans = {**plans, "continue_training": False}
            self.trainer = trainer(plans, configuration, 0, self.dataset_json, self.device)
            self.trainer.initialize()

    def scales_of(self, coarse: Tensor) -> list[Tensor]:
        """Return targets of every deep-supervision scale from a coarse one."""
        patch = self.trainer.configuration_manager.patch_size
        return [
            F.interpolate(coarse, [round(edge * factor) for edge, factor in zip(patch, scale, strict=True)])
            for scale in self.trainer._get_deep_supervision_scales()
        ]

    def now(self) -> float:
        """Return the time when all that was started on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def train(self) -> float:
        """Take one training step, agents included; return its seconds."""
        self.trainer.network.train()
        start = self.now()
        self.trainer.train_step(self.batch)
        return self.now() - start

    def warm_up(self) -> None:
        """Train until a step takes what later steps take."""
        for _ in range(WARM_UP):
            self.train()

    def peak_memory(self) -> int:
        """Return the bytes that training takes at its peak, weights included; for a process that does nothing else.

        On a CPU this is what the resident memory grows by during the steps, besides the weights.
        """
        if self.device.type == "cpu":  # what PyTorch allocates for itself at the first use of a convolution
            F.conv3d(torch.rand(1, 1, 8, 8, 8, requires_grad=True), torch.rand(1, 1, 3, 3, 3)).sum().backward()
        before = _resident_bytes("VmRSS")
        self.warm_up()
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        weights = sum(p.numel() * p.element_size() for p in self.trainer.network.parameters())
        return _resident_bytes("VmHWM") - before + weights


class RotatingContestant(Contestant, ABC):
    """A trainer that takes some batches in turn, for tables of steps, operations, predictions and checkpoints.

    Trainings of two phases are in their second one. A subclass says what a batch is.
    """

    def __init__(self, place: Workplace, *arguments: Any) -> None:
        super().__init__(place, *arguments)
        self.trainer.num_epochs = 1  # whose first epoch is in the second phase of those that have two
        with open(place.root / "log.txt", "a") as log, redirect_stdout(log):
            self.trainer.on_train_epoch_start()
        torch.manual_seed(0)
        self.batches = cycle([self.make_batch() for _ in range(BATCHES)])

    @abstractmethod
    def make_batch(self) -> dict[str, Any]:
        """Return a batch of noise."""

    def train(self) -> float:
        """Take a step on the next batch; return its seconds."""
        self.batch = next(self.batches)
        return super().train()

    def predict(self) -> float:
        """Predict one window with all channels; return the seconds."""
        self.trainer.network.eval()
        self.trainer.set_deep_supervision_enabled(False)
        window = torch.randn_like(next(self.batches)["data"][:1]).to(self.device)
        start = self.now()
        with torch.inference_mode():
            self.trainer.network(window)
        seconds = self.now() - start
        self.trainer.set_deep_supervision_enabled(True)
        return seconds

    def operations(self) -> float:
        """Return the floating point operations of a training step, in the mean of all batches."""
        with FlopCounterMode(display=False) as counter:
            for _ in range(BATCHES):
                self.train()
        return counter.get_total_flops() / BATCHES

    def checkpoint_bytes(self) -> int:
        """Return the size of a checkpoint."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "checkpoint.pth")
            self.trainer.save_checkpoint(str(file))
            return file.stat().st_size


def table_of_costs(
    contestants: Mapping[str, RotatingContestant], rounds: int, memory_of: Callable[[str], int]
) -> pd.DataFrame:
    """Return what each contestant costs, as ratios to the first of them; times are taken in turn.

    Parameters
    ----------
    contestants : mapping of str to RotatingContestant
        By name.
    rounds : int
        Measurements of each.
    memory_of : callable
        Returns the peak memory in bytes of the contestant of a name.
    """
    first = next(iter(contestants))
    measured = [
        {name: (one.train(), one.predict()) for name, one in contestants.items()} for _ in range(WARM_UP + rounds)
    ][WARM_UP:]
    fixed = {
        name: {"operations": one.operations(), "checkpoint": one.checkpoint_bytes(), "peak memory": memory_of(name)}
        for name, one in contestants.items()
    }
    rows = {
        name: {
            **{
                label: median(one[name][kind] / one[first][kind] for one in measured)
                for kind, label in enumerate(("training step", "prediction"))
            },
            **{label: value / fixed[first][label] for label, value in fixed[name].items()},
        }
        for name in contestants
    }
    return pd.DataFrame(rows).T


def read_preprocessed(place: Workplace, dataset: str, name: str) -> dict[str, Any]:
    """Return a JSON file of a preprocessed data set: ``dataset``, or plans."""
    return json.loads(place.path("nnUNet_preprocessed", dataset, f"{name}.json").read_text())


def memory_in_new_process(script: str, *words: object) -> int:
    """Return the number that a benchmark prints when it is run with some words: the memory of one trainer alone."""
    # Large blocks go back to the system as soon as they are free, so that the peak is that of what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, script, *map(str, words)]
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(answer.splitlines()[-1])


def _resident_bytes(entry: str) -> int:
    """Return the present (VmRSS) or highest (VmHWM) resident memory of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))
