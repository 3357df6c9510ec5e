"""Trainers with another schedule, optimizer or augmentation, made from those that there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

LEARNING_RATE = 3e-3
"""Of AdamW."""


class AdamW:
    """AdamW with nnU-Net's schedule, where there is no time for the thousands of iterations that its SGD needs.

    Goes before a trainer in the list of bases, as the following class does.
    """

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Return AdamW for all parameters; those of agents that learn by themselves get no gradient here."""
        self.initial_lr = LEARNING_RATE  # which nnU-Net reports
        weights = self.network.parameters()
        optimizer = torch.optim.AdamW(
            weights, LEARNING_RATE, weight_decay=self.weight_decay, fused=self.device.type == "cpu"
        )
        return optimizer, PolyLRScheduler(optimizer, LEARNING_RATE, self.num_epochs)


class NoMirroring:
    """No mirroring: a mirrored heart is one more thing to learn."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, Any, Any, None]:
        """Return nnU-Net's settings without the axes to mirror, in prediction, too."""
        rotation, dummy_2d, initial_patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, None


def schedule_of(epochs: int) -> dict[str, int]:
    """Return the schedule of a number of epochs; a kill costs a tenth of them at most, or nnU-Net's 50."""
    return {"num_epochs": epochs, "save_every": min(50, max(1, epochs // 10))}


def make_trainer(name: str, bases: tuple[type, ...], module: str, **settings: Any) -> type[nnUNetTrainer]:
    """Return a trainer class, which its module must hold under its name for nnU-Net and pickle to find it.

    Parameters
    ----------
    name : str
        Name of the class, which nnU-Net writes into checkpoints and names of folders.
    bases : tuple of type
        The trainer, and before it what changes it.
    module : str
        Name of the module, ``__name__`` there.
    **settings
        What replaces the trainer's settings (see `rl_nnunet.training.settings.TrainerSettings`).
    """
    trainer = bases[-1]
    changes = ", ".join(f"{key} {value}" for key, value in settings.items())
    summary = f"`{'` and `'.join(base.__name__ for base in reversed(bases))}`{changes and f', with {changes}'}."
    members = {"__doc__": summary, "__module__": module, "settings": replace(trainer.settings, **settings)}
    return type(name, bases, members)
