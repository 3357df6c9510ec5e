"""What each trainer costs, as ratios to stock nnU-Net on the plans of ``paired.py``, measured in turn in one run.

Compared are training steps on batches from which modalities are withheld as in training, the same for all, the floating
point operations of these steps (the limit of what a faster implementation could gain), their peak memory (each trainer
in a process of its own), the prediction of one window with all sequences, and the size of a checkpoint after the steps.
Trainings of two phases are in their second one.

    python benchmarks/paired.py -o FOLDER --data myops --rows        # makes the data and plans
    python benchmarks/cost_paired.py -o FOLDER --data myops --rounds 15
    python benchmarks/cost_paired.py -o FOLDER --data myops --width 4 --rows nnUNetTrainer IntraInterTrainerNoAgents
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from contestant import RotatingContestant, memory_in_new_process, read_preprocessed, table_of_costs
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from paired import DATA, STOCK, Data
from workflow import Workplace

from rl_nnunet.dataloading.modality_dropout import draw_subset
from rl_nnunet.plans.modality_shares import DEFAULT_MODALITY_DROPOUT
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


class PairedContestant(RotatingContestant):
    """A trainer of paired sequences, by its name; its network has `width` times the planned features."""

    def __init__(self, place: Workplace, data: Data, name: str, width: int = 1) -> None:
        trainer, plans_name = TRAINERS[name]
        plans = read_preprocessed(place, data.dataset, plans_name)
        network = plans["configurations"][data.configuration]["architecture"]["arch_kwargs"]
        for part in (network, network.get("modality_encoder", {})):
            if "features_per_stage" in part:
                part["features_per_stage"] = [width * features for features in part["features_per_stage"]]
        super().__init__(place, data.dataset, trainer, plans, data.configuration)

    def make_batch(self) -> dict[str, Any]:
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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of paired.py")
    parser.add_argument("--data", choices=tuple(DATA), default="phantom")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turn")
    parser.add_argument("--rows", nargs="+", default=list(TRAINERS), choices=list(TRAINERS), help="the first is 1")
    parser.add_argument("--width", type=int, default=1, help="times the features of the plans, in every network")
    parser.add_argument("--memory_of", choices=tuple(TRAINERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place, data = Workplace(arguments.output, arguments.device), DATA[arguments.data]
    os.environ.update(place.variables)
    if arguments.memory_of:
        print(PairedContestant(place, data, arguments.memory_of, arguments.width).peak_memory())
        return
    contestants = {name: PairedContestant(place, data, name, arguments.width) for name in arguments.rows}
    same_place = ("-o", place.root, "-device", place.device, "--data", arguments.data, "--width", arguments.width)
    table = table_of_costs(
        contestants,
        arguments.rounds,
        lambda name: memory_in_new_process(__file__, *same_place, "--memory_of", name),
    )
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
