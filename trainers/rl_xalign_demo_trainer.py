"""A schedule that two CPU cores finish in minutes; for demonstrations, not for results."""

from __future__ import annotations

import torch

from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


class RLXAlignTrainerDemo(RLXAlignTrainer):
    """`RLXAlignTrainer` with 1500 iterations."""

    # nnU-Net reads the names of the parameters: no *args.
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 15
        self.num_iterations_per_epoch = 100
        self.num_val_iterations_per_epoch = 5
        self.save_every = 2
