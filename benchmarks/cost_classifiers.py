"""What each classifier costs, as ratios to ``ClassificationTrainer`` on the plans of ``survival.py``.

Stock nnU-Net has no classifier; early fusion, one encoder for all channels, is the simplest of ours. Measured is what
``cost_paired.py`` measures, of whole cases with all sequences.

    python benchmarks/survival.py -o FOLDER --only_data
    python benchmarks/cost_classifiers.py -o FOLDER --rounds 15
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from contestant import RotatingContestant, memory_in_new_process, read_preprocessed, table_of_costs
from survival import CONFIGURATION, DATASET, PLANS
from workflow import Workplace

from rl_nnunet.trainers.apga_classification_trainer import APGAClassificationTrainer
from rl_nnunet.trainers.augmentation_policy_trainer import AugmentationPolicyClassificationTrainer
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.intra_inter_classification_trainer import (
    IntraInterClassificationTrainer,
    IntraInterClassificationTrainerNoAgents,
    IntraInterClassificationTrainerNoInter,
)

TRAINERS = {
    trainer.__name__: trainer
    for trainer in (
        ClassificationTrainer,
        AugmentationPolicyClassificationTrainer,
        APGAClassificationTrainer,
        IntraInterClassificationTrainerNoAgents,
        IntraInterClassificationTrainerNoInter,
        IntraInterClassificationTrainer,
    )
}


class ClassificationContestant(RotatingContestant):
    """A trainer of a classifier, by its name."""

    def __init__(self, place: Workplace, name: str) -> None:
        super().__init__(place, DATASET, TRAINERS[name], read_preprocessed(place, DATASET, PLANS), CONFIGURATION)

    def make_batch(self) -> dict[str, Any]:
        """Return a batch with the classes of cases of the data set."""
        configuration = self.trainer.configuration_manager
        cases = sorted(self.trainer.classes.labels)
        chosen = torch.randint(len(cases), (configuration.batch_size,)).tolist()
        data = torch.randn(len(chosen), len(self.dataset_json["channel_names"]), *configuration.patch_size)
        return {"data": data, "keys": [cases[index] for index in chosen]}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of survival.py")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, in turn")
    parser.add_argument("--memory_of", choices=tuple(TRAINERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    os.environ.update(place.variables)
    if arguments.memory_of:
        print(ClassificationContestant(place, arguments.memory_of).peak_memory())
        return
    same_place = ("-o", place.root, "-device", place.device)
    table = table_of_costs(
        {name: ClassificationContestant(place, name) for name in TRAINERS},
        arguments.rounds,
        lambda name: memory_in_new_process(__file__, *same_place, "--memory_of", name),
    )
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
