"""``ClassificationTrainer``: a classifier with one encoder for all channels, on nnU-Net's training loop."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.plans.classification import ClassificationNetPlan
from rl_nnunet.trainers.classification_settings import ClassificationSettings
from rl_nnunet.trainers.classification_training import ClassificationTraining
from rl_nnunet.training.absent_channels import AbsentChannels
from rl_nnunet.training.adapted_plans import AdaptedPlans
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.degraded_modalities import DegradedModalities


class ClassificationTrainer(
    ClassificationTraining, AgentTraining, AbsentChannels, DegradedModalities, AdaptedPlans, nnUNetTrainer
):
    """Train `rl_nnunet.networks.classification_net.ClassificationNet`, early fusion, on plans of its planner.

    There is no agent; `AgentTraining` gives seeds, and checkpoints from which a training goes on exactly.

    Attributes
    ----------
    settings : ClassificationSettings
        Optimizer and schedule.
    """

    settings = ClassificationSettings()
    network_plan = ClassificationNetPlan()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr, self.weight_decay = self.settings.adam.learning_rate, self.settings.adam.weight_decay

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return Adam with nnU-Net's schedule."""
        weights, decay = self.network.parameters(), self.weight_decay
        optimizer = torch.optim.Adam(weights, self.initial_lr, weight_decay=decay, fused=self.device.type == "cpu")
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
