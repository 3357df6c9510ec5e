"""Trainers with a schedule from the environment, so that all rows of a table have seen the same number of patches.

Each is named after its trainer with ``Benchmark`` behind it. The number of steps is read from ``BENCHMARK_STEPS``, that
of an epoch from ``BENCHMARK_EPOCH_STEPS``. All train with AdamW and without mirroring: nnU-Net's SGD with momentum 0.99
needs thousands of iterations, which a CPU seldom has. With ``BENCHMARK_SGD``, they keep the optimizer of their trainer.
The final validation is left out: tables are about held-out cases.

With equal seeds, all trainers start from the same weights (of the parts that they share) and see the same patches: what
the network and the agents draw in a step does not shift what the loader and the augmentation draw (what agents draw at
the end of an epoch does).
"""

from __future__ import annotations

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.environment import SEED_VARIABLE
from rl_nnunet.trainers.schedules import CLASSIFICATION_TRAINERS, TRAINERS
from rl_nnunet.training.random_state import seed_everything
from rl_nnunet.training.schedules import AdamW, NoMirroring

USUAL_EPOCH = 50


def with_schedule(base: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """Return a subclass with the schedule, the optimizer and the seed of the environment."""
    optimizer = () if os.environ.get("BENCHMARK_SGD") else (AdamW,)

    class Scheduled(NoMirroring, *optimizer, base):
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            epoch = int(os.environ["BENCHMARK_EPOCH_STEPS"])
            # Agents that learn from validations need many epochs, and more than a batch to be rewarded for.
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = epoch, 1 if epoch == USUAL_EPOCH else 4
            self.num_epochs = int(os.environ["BENCHMARK_STEPS"]) // epoch
            self.save_every = max(1, self.num_epochs // 10)

        def initialize(self) -> None:
            super().initialize()
            self._seed()
            self.network.apply(self.network.initialize)

        def on_train_start(self) -> None:
            self._seed()
            super().on_train_start()

        def train_step(self, batch: dict) -> dict:
            with torch.random.fork_rng():
                return super().train_step(batch)

        def _seed(self) -> None:
            seed_everything(int(os.environ[SEED_VARIABLE]) + self.current_epoch)

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            self.print_to_log_file("The final validation is left out.")

    Scheduled.__name__ = Scheduled.__qualname__ = f"{base.__name__}Benchmark"
    return Scheduled


BASES = (nnUNetTrainer, *TRAINERS, *CLASSIFICATION_TRAINERS)
globals().update({f"{base.__name__}Benchmark": with_schedule(base) for base in BASES})
