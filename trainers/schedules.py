"""Every trainer with other schedules and with AdamW: ``RLXAlignTrainer_20epochs``, ``RLXAlignTrainerAdamW_250epochs``.

The classes are made, not typed. nnU-Net finds them as it finds any other: as attributes of a module of this folder. A
name is that of a trainer, ``AdamW`` behind it for that optimizer, and nnU-Net's ending for the number of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.trainers.agent_trainer import AgentTrainer
from rl_nnunet.trainers.intra_inter_ablations import IntraInterTrainerNoAgents, IntraInterTrainerNoInter
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer, IntraInterTrainerSGD
from rl_nnunet.trainers.rl_xalign_ablations import (
    RLXAlignTrainerGlobalPolicy,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoXAlign,
)
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000)
"""Those that nnU-Net has for its own trainer, beside the 1000 of the trainers themselves."""
TRAINERS = (
    RLXAlignTrainer,
    RLXAlignTrainerNoXAlign,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerGlobalPolicy,
    IntraInterTrainer,
    IntraInterTrainerSGD,
    IntraInterTrainerNoInter,
    IntraInterTrainerNoAgents,
)
LEARNING_RATE = 3e-3
"""Of AdamW."""


class AdamW:
    """AdamW with nnU-Net's schedule, where there is no time for the thousands of iterations that its SGD needs.

    Goes before a trainer in the list of bases, as the following class does.
    """

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Return AdamW for all parameters; those of agents that learn by themselves get no gradient here."""
        self.initial_lr = LEARNING_RATE  # which nnU-Net reports
        optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=self.weight_decay)
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


def make_trainer(name: str, bases: tuple[type, ...], schedule: Mapping[str, int] | None = None) -> type[nnUNetTrainer]:
    """Return a trainer class that stands in this module under its name.

    Parameters
    ----------
    name : str
        Name of the class, which nnU-Net writes into checkpoints and names of folders.
    bases : tuple of type
        The trainer, and before it what changes it.
    schedule : mapping of str to int, optional
        See `AgentTrainer`; that of the trainer if left out.
    """
    changes = ", ".join(f"{key} {value}" for key, value in (schedule or {}).items())
    members = {
        "__doc__": f"`{'` and `'.join(base.__name__ for base in reversed(bases))}`{changes and f', with {changes}'}.",
        "__module__": __name__,
        **({"schedule": schedule} if schedule else {}),
    }
    return type(name, bases, members)


def made_trainers() -> dict[str, type[AgentTrainer]]:
    """Return all trainers that this module makes, by name."""
    made = {
        f"{base.__name__}AdamW": make_trainer(f"{base.__name__}AdamW", (AdamW, base))
        for base in TRAINERS
        if base is not IntraInterTrainerSGD
    }
    for base in [*TRAINERS, *made.values()]:
        for epochs in EPOCHS:
            name = f"{base.__name__}_{epochs}epoch{'s' if epochs > 1 else ''}"
            made[name] = make_trainer(name, (base,), schedule_of(epochs))
    # A schedule that two CPU cores finish in minutes; for demonstrations, not for results.
    demo = {"num_epochs": 12, "num_iterations_per_epoch": 75, "num_val_iterations_per_epoch": 5, "save_every": 2}
    made["RLXAlignTrainerDemo"] = make_trainer("RLXAlignTrainerDemo", (NoMirroring, AdamW, RLXAlignTrainer), demo)
    return made


globals().update(made_trainers())
