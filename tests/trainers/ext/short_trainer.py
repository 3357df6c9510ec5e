"""Trainers with a schedule of seconds, found through ``nnUNet_extTrainer``; for tests only."""

import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from rl_nnunet.agents.ppo import PPOConfig
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
from rl_nnunet.training.schedules import AdamW, NoMirroring, make_trainer

WAIT_VARIABLE = "RL_NNUNET_TEST_WAIT_IN_EPOCH"
"""Epoch in whose second iteration the training creates the file ``waiting`` and stops, to be killed there."""


class TwoEpochs:
    """Two epochs of three iterations; goes before a trainer in the list of bases."""

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
        self.num_epochs = 2
        self.num_iterations_per_epoch = 3
        self.num_val_iterations_per_epoch = 1
        self.save_every = 1
        self.steps = 0

    def train_step(self, batch):
        self.steps += 1
        if os.environ.get(WAIT_VARIABLE) == str(self.current_epoch) and self.steps % self.num_iterations_per_epoch == 2:
            Path(self.output_folder, "waiting").touch()
            time.sleep(600)
        return super().train_step(batch)


class ShortSchedule(TwoEpochs, RLXAlignTrainer):
    """See its first base."""


class ShortTrainer(ShortSchedule):
    """With agents that learn after six transitions, so that an update and a half-filled buffer are tested, too."""

    settings = replace(RLXAlignTrainer.settings, ppo=PPOConfig(transitions_per_update=6, epochs=2, minibatch_size=4))


class ShortNoCMA(ShortSchedule, RLXAlignTrainerNoCMA):
    """See its second base."""


class ShortNoXAlign(ShortSchedule, RLXAlignTrainerNoXAlign):
    """See its second base."""


class ShortNoAuxLoss(ShortSchedule, RLXAlignTrainerNoAuxLoss):
    """See its second base."""


class ShortNoAGWD(ShortSchedule, RLXAlignTrainerNoAGWD):
    """See its second base."""


class ShortGlobalPolicy(ShortSchedule, RLXAlignTrainerGlobalPolicy):
    """See its second base."""


class ShortFeatureSimilarity(ShortSchedule):
    """With the paper's similarity."""

    settings = replace(RLXAlignTrainer.settings, similarity="feature")


class ShortIntraInter(TwoEpochs, IntraInterTrainer):
    """With agents that learn after ten transitions."""

    settings = replace(
        IntraInterTrainer.settings,
        ppo=replace(IntraInterTrainer.settings.ppo, transitions_per_update=10, epochs=2, minibatch_size=4),
    )


class ShortNoInter(TwoEpochs, IntraInterTrainerNoInter):
    """See its second base."""


class ShortNoAgents(TwoEpochs, IntraInterTrainerNoAgents):
    """See its second base."""


class ShortIntraInterSGD(TwoEpochs, IntraInterTrainerSGD):
    """See its second base."""


ShortAdamW = make_trainer(
    "ShortAdamW",
    (NoMirroring, AdamW, RLXAlignTrainerNoXAlign),
    {"num_epochs": 1, "num_iterations_per_epoch": 100, "num_val_iterations_per_epoch": 1},
)
