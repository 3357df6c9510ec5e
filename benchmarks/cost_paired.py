"""What each trainer costs, as ratios to stock nnU-Net on the plans of ``paired.py``, measured in turn in one run.

Compared are training steps on batches from which modalities are withheld as in training, the same for all, the floating
point operations of these steps (the limit of what a faster implementation could gain), their peak memory (each trainer
in a process of its own), the prediction of one window with all sequences, and the size of a checkpoint after the steps.
Trainings of two phases are in their second one.

    python benchmarks/paired.py -o FOLDER --data myops --rows        # makes the data and plans
    python benchmarks/cost_paired.py -o FOLDER --data myops --rounds 15
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import redirect_stdout
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from contestant import WARM_UP, Contestant, memory_in_new_process, read_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from paired import DATA, STOCK, Data
from torch.utils.flop_counter import FlopCounterMode
from workflow import Workplace

from rl_nnunet.dataloading.modality_dropout import draw_subset
from rl_nnunet.plans.modality_dropout import DEFAULT_MODALITY_DROPOUT
from rl_nnunet.trainers.apga_trainer import APGATrainer
from rl_nnunet.trainers.augmentation_policy_trainer import AugmentationPolicyTrainer
from rl_nnunet.trainers.intra_inter_ablations import (
    IntraInterTrainerGate,
    IntraInterTrainerNoAgents,
    IntraInterTrainerSelection,
)
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.modality_dropout_trainer import nnUNetTrainerModalityDropout
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

TRAINERS = {
    "nnUNetTrainer": (nnUNetTrainer, STOCK),
    "nnUNetTrainerModalityDropout": (nnUNetTrainerModalityDropout, STOCK),
    "APGATrainer": (APGATrainer, STOCK),
    "AugmentationPolicyTrainer": (AugmentationPolicyTrainer, STOCK),
    "RLXAlignTrainer": (RLXAlignTrainer, "RLXAlignSmallPlans"),
    "IntraInterTrainerNoAgents": (IntraInterTrainerNoAgents, "IntraInterSmallPlans"),
    "IntraInterTrainerSelection": (IntraInterTrainerSelection, "IntraInterSmallPlans"),
    "IntraInterTrainer": (IntraInterTrainer, "IntraInterSmallPlans"),
    "IntraInterTrainerGate": (IntraInterTrainerGate, "IntraInterSmallPlans"),
}
BATCHES = 8


class PairedContestant(Contestant):
    """A trainer of paired sequences with batches of noise, by its name."""

    def __init__(self, place: Workplace, data: Data, name: str) -> None:
        trainer, plans_name = TRAINERS[name]
        plans = read_preprocessed(place, data.dataset, plans_name)
        super().__init__(place, data.dataset, trainer, plans, data.configuration)
        self.trainer.num_epochs = 1  # whose first epoch is in the second phase of those that have two
        with open(place.root / "log.txt", "a") as log, redirect_stdout(log):
            self.trainer.on_train_epoch_start()
        torch.manual_seed(0)
        self.batches = cycle([self._make_batch() for _ in range(BATCHES)])

    def _make_batch(self) -> dict[str, Any]:
        """Return a batch from which modalities are withheld."""
        configuration, labels = self.trainer.configuration_manager, self.trainer.label_manager
        channels = len(self.dataset_json["channel_names"])
        data = torch.randn(configuration.batch_size, channels, *configuration.patch_size)
        for sample in data:
            if torch.rand(()) < DEFAULT_MODALITY_DROPOUT:
                sample[~draw_subset(channels)] = 0
        coarse = (len(data), 1, *[4] * len(configuration.patch_size))
        if labels.has_regions:
            target = (torch.rand(len(data), len(labels.foreground_regions), *coarse[2:]) < 0.3).float()
        else:
            target = torch.randint(len(labels.all_labels), coarse).float()
        return {"data": data, "target": self.scales_of(target)}

    def train(self) -> float:
        """Take a step on the next batch; return its seconds."""
        self.batch = next(self.batches)
        return super().train()

    def predict(self) -> float:
        """Predict one window with all sequences; return the seconds."""
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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of paired.py")
    parser.add_argument("--data", choices=tuple(DATA), default="phantom")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turn")
    parser.add_argument("--memory_of", choices=tuple(TRAINERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place, data = Workplace(arguments.output, arguments.device), DATA[arguments.data]
    os.environ.update(place.variables)
    if arguments.memory_of:
        print(PairedContestant(place, data, arguments.memory_of).peak_memory())
        return
    contestants = {name: PairedContestant(place, data, name) for name in TRAINERS}
    rounds = [
        {name: (one.train(), one.predict()) for name, one in contestants.items()}
        for _ in range(WARM_UP + arguments.rounds)
    ][WARM_UP:]
    counted = {name: (one.operations(), one.checkpoint_bytes()) for name, one in contestants.items()}
    same_place = ("-o", place.root, "-device", place.device, "--data", arguments.data)
    memory = {name: memory_in_new_process(__file__, *same_place, "--memory_of", name) for name in TRAINERS}
    rows = {}
    for name in TRAINERS:
        rows[name] = {
            label: median(one[name][kind] / one["nnUNetTrainer"][kind] for one in rounds)
            for kind, label in enumerate(("training step", "prediction"))
        }
        for kind, label in enumerate(("operations", "checkpoint")):
            rows[name][label] = counted[name][kind] / counted["nnUNetTrainer"][kind]
        rows[name]["peak memory"] = memory[name] / memory["nnUNetTrainer"]
    print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
