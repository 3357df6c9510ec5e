"""What the paired trainers cost, as ratios to stock nnU-Net on the same plans, measured in turn in one run.

Compared are training steps, their peak memory (each trainer in a process of its own) and the prediction of one window
with all sequences. Beside the ratios stand two floors in floating point operations of a forward pass, relative to the
stock network: with the same decoder, but an encoder per modality; and that T + 1 times.

    python benchmarks/paired.py -o FOLDER --data phantom          # makes the data and plans
    python benchmarks/cost_paired.py -o FOLDER --rounds 9
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from cost import resident_bytes
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from workflow import Workplace

from rl_nnunet.trainers.intra_inter_ablations import IntraInterTrainerNoAgents, IntraInterTrainerNoInter
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

DATASET = "Dataset541_PhantomTumors"
TRAINERS = {
    "nnUNetTrainer": (nnUNetTrainer, "StockPlans"),
    "RLXAlignTrainer": (RLXAlignTrainer, "RLXAlignSmallPlans"),
    "IntraInterTrainer": (IntraInterTrainer, "IntraInterSmallPlans"),
    "IntraInterTrainerNoInter": (IntraInterTrainerNoInter, "IntraInterSmallPlans"),
    "IntraInterTrainerNoAgents": (IntraInterTrainerNoAgents, "IntraInterSmallPlans"),
}
WARM_UP = 2


class Contestant:
    """A trainer with its network and a batch of noise."""

    def __init__(self, place: Workplace, name: str) -> None:
        folder = place.path("nnUNet_preprocessed", DATASET)
        trainer, plans_name = TRAINERS[name]
        plans = {**json.loads((folder / f"{plans_name}.json").read_text()), "continue_training": False}
        description = json.loads((folder / "dataset.json").read_text())
        self.device = torch.device(place.device)
        torch.manual_seed(0)
        with open(place.root / "log.txt", "a") as log, redirect_stdout(log):
            self.trainer: nnUNetTrainer = trainer(plans, "3d_fullres", 0, description, self.device)
            self.trainer.initialize()
        configuration = self.trainer.configuration_manager
        data = torch.randn(configuration.batch_size, len(description["channel_names"]), *configuration.patch_size)
        coarse = (torch.rand(len(data), len(description["labels"]) - 1, 4, 4, 4) < 0.3).float()
        sizes = [
            [round(edge * factor) for edge, factor in zip(configuration.patch_size, scale, strict=True)]
            for scale in self.trainer._get_deep_supervision_scales()
        ]
        self.batch = {"data": data, "target": [F.interpolate(coarse, size) for size in sizes]}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def train(self) -> float:
        """Take one training step, agents included; return its seconds."""
        self.trainer.network.train()
        start = self._now()
        self.trainer.train_step(self.batch)
        return self._now() - start

    def predict(self) -> float:
        """Predict one window; return the seconds."""
        self.trainer.network.eval()
        self.trainer.set_deep_supervision_enabled(False)
        start = self._now()
        with torch.inference_mode():
            self.trainer.network(self.batch["data"][:1].to(self.device))
        seconds = self._now() - start
        self.trainer.set_deep_supervision_enabled(True)
        return seconds


def peak_memory(place: Workplace, name: str) -> int:
    """Return the bytes that training takes at its peak, weights included; for a process that does nothing else."""
    if place.device == "cpu":  # what PyTorch allocates for itself at the first use of a convolution
        F.conv3d(torch.rand(1, 1, 8, 8, 8, requires_grad=True), torch.rand(1, 1, 3, 3, 3)).sum().backward()
    contestant = Contestant(place, name)
    before = resident_bytes("VmRSS")
    for _ in range(WARM_UP):
        contestant.train()
    if place.device == "cuda":
        return torch.cuda.max_memory_allocated()
    weights = sum(p.numel() * p.element_size() for p in contestant.trainer.network.parameters())
    return resident_bytes("VmHWM") - before + weights


def memory_in_new_process(place: Workplace, name: str) -> int:
    """Measure the memory of one trainer alone."""
    words = [sys.executable, __file__, "-o", str(place.root), "-device", place.device, "--memory_of", name]
    # Large blocks go back to the system as soon as they are free, so that the peak is that of what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    answer = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(answer.splitlines()[-1])


def operations(module: torch.nn.Module, *inputs: Any) -> int:
    """Return the floating point operations of a forward pass."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def floors(stock: Contestant) -> dict[str, float]:
    """Return the floors that an encoder per modality implies, relative to the stock network's operations."""
    network, data = stock.trainer.network, stock.batch["data"][:1]
    modalities, iterations = data.shape[1], 4
    encoder = operations(network.encoder, data)
    both = operations(network, data)
    per_modality = (modalities * encoder + both - encoder) / both
    return {"an encoder per modality": per_modality, "that in every iteration": iterations * per_modality}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of paired.py")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turn")
    parser.add_argument("--memory_of", choices=tuple(TRAINERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    os.environ.update(place.variables)
    if arguments.memory_of:
        print(peak_memory(place, arguments.memory_of))
        return
    contestants = {name: Contestant(place, name) for name in TRAINERS}
    rounds = [
        {name: (one.train(), one.predict()) for name, one in contestants.items()}
        for _ in range(WARM_UP + arguments.rounds)
    ][WARM_UP:]
    memory = {name: memory_in_new_process(place, name) for name in TRAINERS}
    rows = {}
    for name in TRAINERS:
        rows[name] = {
            label: median(one[name][kind] / one["nnUNetTrainer"][kind] for one in rounds)
            for kind, label in enumerate(("training step", "prediction"))
        }
        rows[name]["peak memory"] = memory[name] / memory["nnUNetTrainer"]
    print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))
    print("floors:", {name: round(value, 2) for name, value in floors(contestants["nnUNetTrainer"]).items()})


if __name__ == "__main__":
    main()
