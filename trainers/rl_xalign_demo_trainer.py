"""A schedule that two CPU cores finish in minutes; for demonstrations, not for results."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

LEARNING_RATE = 3e-3


def adamw(trainer: nnUNetTrainer) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
    """Return AdamW with nnU-Net's schedule: its SGD with momentum 0.99 needs thousands of iterations to get going."""
    optimizer = torch.optim.AdamW(trainer.network.parameters(), LEARNING_RATE, weight_decay=trainer.weight_decay)
    return optimizer, PolyLRScheduler(optimizer, LEARNING_RATE, trainer.num_epochs)


def without_mirroring(trainer: nnUNetTrainer, augmentation: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, None]:
    """Return nnU-Net's augmentation settings without mirroring: a mirrored heart is one more thing to learn."""
    rotation, dummy_2d, initial_patch_size, _ = augmentation
    trainer.inference_allowed_mirroring_axes = None
    return rotation, dummy_2d, initial_patch_size, None


class RLXAlignTrainerDemo(RLXAlignTrainer):
    """`RLXAlignTrainer` with a few hundred iterations of AdamW, without mirroring."""

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
        self.num_epochs = 12
        self.num_iterations_per_epoch = 75
        self.num_val_iterations_per_epoch = 5
        self.save_every = 2

    def configure_optimizers(self) -> tuple[Any, Any]:
        """See `adamw`."""
        return adamw(self)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, Any, Any, Any]:
        """See `without_mirroring`."""
        return without_mirroring(self, super().configure_rotation_dummyDA_mirroring_and_inital_patch_size())
