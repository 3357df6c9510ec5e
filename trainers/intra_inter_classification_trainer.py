"""``IntraInterClassificationTrainer``: the paper's classifier with its agents, and its ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.agents.rewards import true_label_probability
from rl_nnunet.losses.classification_loss import ClassificationLoss
from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.losses.joint_loss import JointLoss
from rl_nnunet.outputs import IntraInterOutput
from rl_nnunet.plans.intra_inter_classifier import IntraInterClassifierPlan
from rl_nnunet.trainers.classification_settings import IntraInterClassificationSettings
from rl_nnunet.trainers.classification_training import ClassificationTraining
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer

PAPERS_LEARNING_RATE = 1e-2
"""Of the agents: section 3.1."""


class IntraInterClassificationTrainer(ClassificationTraining, IntraInterTrainer):
    """Train `rl_nnunet.networks.intra_inter_classifier.IntraInterClassifier` on plans of ``ClassificationPlanner``.

    Agents, PPO, loss and optimizers are those of `IntraInterTrainer`. The agents learn more slowly than the paper's,
    see `rl_nnunet.agents.weights`; `IntraInterClassificationTrainerFastAgents` has its rate.
    """

    settings = IntraInterClassificationSettings()
    network_plan = IntraInterClassifierPlan()

    def _build_loss(self) -> IteratedLoss:
        """Build eq. 2 with the cross entropy."""
        loss = ClassificationLoss()
        loss = JointLoss(loss, loss) if self.is_ddp else loss
        return IteratedLoss(loss, loss, self.module.fused_output_weight)

    def decision_of(self, output: IntraInterOutput | Tensor) -> Tensor:
        """Return the sum of the outputs of the last iteration."""
        return output.iterations[-1].decision if isinstance(output, IntraInterOutput) else output

    def _true_label_probabilities(self, decisions: Sequence[Tensor], truth: Tensor) -> Tensor:
        """Return the probabilities of the true class in some decisions, (B, decisions): those of one voxel."""
        voxel = truth[:, None, None]
        return torch.stack([true_label_probability(decision[..., None], voxel) for decision in decisions], dim=1)

    def own_panels(self) -> Sequence[Any]:
        """Return those of the segmentation, whose loss is another one."""
        panels = super().own_panels()
        return [panel._replace(label="cross entropy") if "loss" in panel.title else panel for panel in panels]


class IntraInterClassificationTrainerNoInter(IntraInterClassificationTrainer):
    """Without the inter agent (the paper's "w/o Inter")."""

    settings = replace(IntraInterClassificationTrainer.settings, architecture={"agents": ["intra"]})


class IntraInterClassificationTrainerNoAgents(IntraInterClassificationTrainer):
    """Without agents (the paper's "Baseline"): one pass, no refinement."""

    settings = replace(IntraInterClassificationTrainer.settings, architecture={"agents": [], "iterations": 0})


class IntraInterClassificationTrainerFastAgents(IntraInterClassificationTrainer):
    """With the learning rate of the paper's agents."""

    settings = replace(
        IntraInterClassificationTrainer.settings,
        ppo=replace(
            IntraInterClassificationTrainer.settings.ppo,
            policy_learning_rate=PAPERS_LEARNING_RATE,
            critic_learning_rate=PAPERS_LEARNING_RATE,
        ),
    )
