"""What the paired trainers cost, as ratios to stock nnU-Net on the same plans, measured in turn in one run.

Compared are training steps, their peak memory (each trainer in a process of its own) and the prediction of one window
with all sequences. Beside the ratios stand two floors in floating point operations of a forward pass, relative to the
stock network: with the same decoder, but an encoder per modality; and that T + 1 times.

    python benchmarks/paired.py -o FOLDER --data phantom          # makes the data and plans
    python benchmarks/cost_paired.py -o FOLDER --rounds 9
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from contestant import WARM_UP, Contestant, memory_in_new_process, read_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
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


class PairedContestant(Contestant):
    """A trainer of paired sequences with a batch of noise, by its name."""

    def __init__(self, place: Workplace, name: str) -> None:
        trainer, plans_name = TRAINERS[name]
        super().__init__(place, DATASET, trainer, read_preprocessed(place, DATASET, plans_name))
        configuration, description = self.trainer.configuration_manager, self.dataset_json
        data = torch.randn(configuration.batch_size, len(description["channel_names"]), *configuration.patch_size)
        coarse = (torch.rand(len(data), len(description["labels"]) - 1, 4, 4, 4) < 0.3).float()
        self.batch = {"data": data, "target": self.scales_of(coarse)}

    def predict(self) -> float:
        """Predict one window; return the seconds."""
        self.trainer.network.eval()
        self.trainer.set_deep_supervision_enabled(False)
        start = self.now()
        with torch.inference_mode():
            self.trainer.network(self.batch["data"][:1].to(self.device))
        seconds = self.now() - start
        self.trainer.set_deep_supervision_enabled(True)
        return seconds


def operations(module: torch.nn.Module, *inputs: Any) -> int:
    """Return the floating point operations of a forward pass."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def floors(stock: PairedContestant) -> dict[str, float]:
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
        print(PairedContestant(place, arguments.memory_of).peak_memory())
        return
    contestants = {name: PairedContestant(place, name) for name in TRAINERS}
    rounds = [
        {name: (one.train(), one.predict()) for name, one in contestants.items()}
        for _ in range(WARM_UP + arguments.rounds)
    ][WARM_UP:]
    same_place = ("-o", place.root, "-device", place.device)
    memory = {name: memory_in_new_process(__file__, *same_place, "--memory_of", name) for name in TRAINERS}
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
