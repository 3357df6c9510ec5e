"""Trainers with a schedule of seconds, found through ``nnUNet_extTrainer``; for tests only."""

import os
import time
from dataclasses import replace
from pathlib import Path

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.agents.augmentation import AugmentationConfig
from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.trainers.apga_ablations import (
    APGATrainerCutout,
    APGATrainerGradCAM,
    APGATrainerPaper,
    APGATrainerScriptLoss,
)
from rl_nnunet.trainers.apga_classification_trainer import APGAClassificationTrainer
from rl_nnunet.trainers.apga_trainer import APGARLXAlignTrainer, APGATrainer
from rl_nnunet.trainers.augmentation_policy_trainer import (
    AugmentationPolicyClassificationTrainer,
    AugmentationPolicyRLXAlignTrainer,
    AugmentationPolicyTrainer,
)
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.intra_inter_ablations import (
    IntraInterTrainerNoAgents,
    IntraInterTrainerNoInter,
    IntraInterTrainerSelection,
)
from rl_nnunet.trainers.intra_inter_classification_trainer import (
    IntraInterClassificationTrainer,
    IntraInterClassificationTrainerNoAgents,
    IntraInterClassificationTrainerNoInter,
)
from rl_nnunet.trainers.intra_inter_settings import AdamConfig
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer, IntraInterTrainerSGD
from rl_nnunet.trainers.rl_xalign_ablations import (
    RLXAlignTrainerGlobalPolicy,
    RLXAlignTrainerLossWeightAgent,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoXAlign,
)
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.schedules import AdamW, NoMirroring, make_trainer

WAIT_VARIABLE = "RL_NNUNET_TEST_WAIT_IN_EPOCH"
"""Epoch in whose second iteration the training creates the file ``waiting`` and stops, to be killed there."""
TWO_EPOCHS = {"num_epochs": 2, "num_iterations_per_epoch": 3, "num_val_iterations_per_epoch": 1, "save_every": 1}


class Waiting:
    """Goes before a trainer in the list of bases; waits where the environment says so."""

    steps = 0

    def train_step(self, batch):
        self.steps += 1
        if os.environ.get(WAIT_VARIABLE) == str(self.current_epoch) and self.steps % self.num_iterations_per_epoch == 2:
            Path(self.output_folder, "waiting").touch()
            time.sleep(600)
        return super().train_step(batch)


def short(name, trainer, **settings):
    """Return a trainer of two epochs of three iterations, with some settings replaced."""
    return make_trainer(name, (Waiting, trainer), __name__, schedule=TWO_EPOCHS, **settings)


def learning_after(ppo, transitions):
    """Return hyperparameters with which an update and a half-filled buffer are tested in a few steps."""
    return replace(ppo, transitions_per_update=transitions, epochs=2, minibatch_size=4)


class ShortStock(nnUNetTrainer):
    """nnU-Net's own."""

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        for name, value in TWO_EPOCHS.items():
            setattr(self, name, value)


ShortTrainer = short("ShortTrainer", RLXAlignTrainer, ppo=learning_after(PPOConfig(), 6))
ShortDefault = short("ShortDefault", RLXAlignTrainer)
ShortNoCMA = short("ShortNoCMA", RLXAlignTrainerNoCMA)
ShortNoXAlign = short("ShortNoXAlign", RLXAlignTrainerNoXAlign)
ShortNoAuxLoss = short("ShortNoAuxLoss", RLXAlignTrainerNoAuxLoss)
ShortNoAGWD = short("ShortNoAGWD", RLXAlignTrainerNoAGWD)
# Its second reward, at the end of the third epoch, is the first one that it learns from.
ShortLossWeightAgent = make_trainer(
    "ShortLossWeightAgent",
    (Waiting, RLXAlignTrainerLossWeightAgent),
    __name__,
    schedule={**TWO_EPOCHS, "num_epochs": 4},
)
ShortGlobalPolicy = short("ShortGlobalPolicy", RLXAlignTrainerGlobalPolicy)
ShortFeatureSimilarity = short("ShortFeatureSimilarity", RLXAlignTrainer, similarity="feature")
ShortIntraInter = short(
    "ShortIntraInter",
    IntraInterTrainer,
    ppo=learning_after(IntraInterTrainer.settings.ppo, 10),
    architecture={"exploration_share": 1.0},
)
ShortNoInter = short("ShortNoInter", IntraInterTrainerNoInter)
ShortSelection = short("ShortSelection", IntraInterTrainerSelection)
ShortNoAgents = short("ShortNoAgents", IntraInterTrainerNoAgents)
ShortIntraInterSGD = short("ShortIntraInterSGD", IntraInterTrainerSGD)
ShortAPGAClassification = short("ShortAPGAClassification", APGAClassificationTrainer)
ShortClassification = short("ShortClassification", ClassificationTrainer)
ShortIntraInterClassification = short(
    "ShortIntraInterClassification",
    IntraInterClassificationTrainer,
    ppo=learning_after(IntraInterClassificationTrainer.settings.ppo, 10),
    architecture={"exploration_share": 1.0},
)
ShortClassificationNoInter = short("ShortClassificationNoInter", IntraInterClassificationTrainerNoInter)
ShortClassificationNoAgents = short("ShortClassificationNoAgents", IntraInterClassificationTrainerNoAgents)
LearningClassification = make_trainer(
    "LearningClassification",
    (ClassificationTrainer,),
    __name__,
    schedule={"num_epochs": 2, "num_iterations_per_epoch": 40},
    adam=AdamConfig(1e-3),
)
ShortAPGA = short("ShortAPGA", APGATrainer)
ShortAPGAPaper = short("ShortAPGAPaper", APGATrainerPaper)
ShortAPGAScriptLoss = short("ShortAPGAScriptLoss", APGATrainerScriptLoss)
ShortAPGACutout = short("ShortAPGACutout", APGATrainerCutout)
ShortAPGAGradCAM = short("ShortAPGAGradCAM", APGATrainerGradCAM)
ShortAPGARLXAlign = short("ShortAPGARLXAlign", APGARLXAlignTrainer, ppo=learning_after(PPOConfig(), 6))
AT_ONCE = AugmentationConfig(warmup_share=0.0)
"""Draws a setting for the second of two epochs."""
ShortAugmentationPolicy = short("ShortAugmentationPolicy", AugmentationPolicyTrainer, augmentation=AT_ONCE)
ShortAugmentationPolicyRLXAlign = short(
    "ShortAugmentationPolicyRLXAlign",
    AugmentationPolicyRLXAlignTrainer,
    ppo=learning_after(PPOConfig(), 6),
    augmentation=AT_ONCE,
)
ShortAugmentationPolicyClassification = short(
    "ShortAugmentationPolicyClassification", AugmentationPolicyClassificationTrainer, augmentation=AT_ONCE
)
ShortAdamW = make_trainer(
    "ShortAdamW",
    (NoMirroring, AdamW, RLXAlignTrainerNoXAlign),
    __name__,
    schedule={"num_epochs": 1, "num_iterations_per_epoch": 100, "num_val_iterations_per_epoch": 1},
)
