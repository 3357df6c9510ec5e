"""A schedule that two CPU cores finish in minutes; for demonstrations, not for results."""

from __future__ import annotations

from typing import Any

from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


class RLXAlignTrainerDemo(RLXAlignTrainer):
    """`RLXAlignTrainer` with a few hundred iterations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.num_epochs = 10
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 5
        self.save_every = 2
