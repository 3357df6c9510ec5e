"""Trainers with a schedule from the environment, so that all rows of a table have seen the same number of patches.

Each is named after its trainer with ``Benchmark`` behind it. The schedule is read from ``BENCHMARK_EPOCHS`` and
``BENCHMARK_ITERATIONS``. The final validation is left out: tables are about held-out cases.
"""

from __future__ import annotations

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.random_state import seed_everything
from rl_nnunet.trainers.rl_xalign_ablations import (
    RLXAlignTrainerGlobalPolicy,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoXAlign,
)
from rl_nnunet.trainers.rl_xalign_trainer import SEED_VARIABLE, RLXAlignTrainer


def with_schedule(base: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """Return a subclass with the schedule (and, for stock trainers, the seed) of the environment."""

    class Scheduled(base):
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
        ) -> None:
            if SEED_VARIABLE in os.environ:
                seed_everything(int(os.environ[SEED_VARIABLE]))
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = int(os.environ["BENCHMARK_EPOCHS"])
            self.num_iterations_per_epoch = int(os.environ["BENCHMARK_ITERATIONS"])
            self.num_val_iterations_per_epoch = 1

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            self.print_to_log_file("The final validation is left out.")

    Scheduled.__name__ = Scheduled.__qualname__ = f"{base.__name__}Benchmark"
    return Scheduled


nnUNetTrainerBenchmark = with_schedule(nnUNetTrainer)
RLXAlignTrainerBenchmark = with_schedule(RLXAlignTrainer)
RLXAlignTrainerNoCMABenchmark = with_schedule(RLXAlignTrainerNoCMA)
RLXAlignTrainerNoXAlignBenchmark = with_schedule(RLXAlignTrainerNoXAlign)
RLXAlignTrainerNoAuxLossBenchmark = with_schedule(RLXAlignTrainerNoAuxLoss)
RLXAlignTrainerNoAGWDBenchmark = with_schedule(RLXAlignTrainerNoAGWD)
RLXAlignTrainerGlobalPolicyBenchmark = with_schedule(RLXAlignTrainerGlobalPolicy)
