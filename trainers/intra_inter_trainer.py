"""``IntraInterTrainer``: the intra- and the inter-modality agent on nnU-Net's training loop, for paired data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from rl_nnunet.agents.agent import Agent
from rl_nnunet.agents.rewards import true_label_probability
from rl_nnunet.agents.selection import SelectionAgent, SelectionReport
from rl_nnunet.agents.weights import InterAgent, IntraAgent, WeightReport
from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.networks.iterated_net import SELECTION
from rl_nnunet.plans.intra_inter_net import IntraInterNetPlan
from rl_nnunet.progress_plot import Panel
from rl_nnunet.targets import finest
from rl_nnunet.trainers.intra_inter_settings import IntraInterSettings
from rl_nnunet.training.absent_channels import AbsentChannels
from rl_nnunet.training.adapted_plans import AdaptedPlans
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.degraded_modalities import DegradedModalities
from rl_nnunet.training.loss_terms import joint_loss, terms_of


class IntraInterTrainer(AgentTraining, AbsentChannels, DegradedModalities, AdaptedPlans, nnUNetTrainer):
    """Train one encoder per modality with the agents of Zhu et al. (see `rl_nnunet.networks.intra_inter_net`).

    The backbone and each agent have an Adam of their own, with the paper's weight decay; the backbone's has the paper's
    learning rate and nnU-Net's polynomial decay. The network is not compiled: it computes iterations a second time for
    their gradient.

    Attributes
    ----------
    settings : IntraInterSettings
        Backbone and agents; ablations replace it.
    """

    settings = IntraInterSettings()
    network_plan = IntraInterNetPlan()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.settings.adam is not None:
            self.initial_lr, self.weight_decay = self.settings.adam.learning_rate, self.settings.adam.weight_decay
        arguments = self.configuration_manager.network_arch_init_kwargs
        iterations = range(arguments["iterations"] + 1)
        self.loss_keys = [f"loss_{name}" for name in ("fused", "decision", *arguments["modality_names"])]
        self.probability_keys = [f"probability_iteration{t}" for t in iterations]
        self.reward_keys = [f"reward_iteration{t}" for t in iterations[1:]]

    def usual_degradation(self) -> float:
        """Return what the settings say."""
        return self.settings.degradation

    def build_agents(self) -> dict[str, Agent]:
        """Return the agents of the plans."""
        policies, ppo, device = self.module.policies, self.settings.ppo, self.device
        agents: dict[str, Agent] = {}
        if self.module.is_gated:
            return agents
        if "intra" in policies:
            agents["intra"] = IntraAgent(policies["intra"], ppo, device)
        if "inter" in policies:
            agents["inter"] = InterAgent(self.module.modality_names, policies["inter"], ppo, device)
        if SELECTION in policies:
            names, config = self.module.modality_names, self.settings.selection
            agents[SELECTION] = SelectionAgent(names, policies[SELECTION], config)
        return agents

    def _build_loss(self) -> IteratedLoss:
        """Build eq. 2 around nnU-Net's own loss; the decision and the modalities' own outputs have one scale only."""
        if self.is_ddp:
            build, batch_dice = super()._build_loss, self.configuration_manager.batch_dice
            loss, single = joint_loss(build, batch_dice), joint_loss(build, batch_dice, terms_of)
        else:
            loss = super()._build_loss()
            single = terms_of(loss)
        return IteratedLoss(loss, single, self.module.fused_output_weight)

    def _do_i_compile(self) -> bool:
        return False

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return the settings' Adam for everything but the policies, with nnU-Net's schedule; or nnU-Net's SGD."""
        if self.settings.adam is None:
            return super().configure_optimizers()  # the policies' parameters have no gradient there
        is_gated, named = self.module.is_gated, self.module.named_parameters()
        trained = [p for name, p in named if is_gated or not name.startswith("policies.")]
        optimizer = torch.optim.Adam(
            trained, self.initial_lr, weight_decay=self.weight_decay, fused=self.device.type == "cpu"
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def describe_step(
        self, batch: dict[str, Any], loss: float
    ) -> tuple[WeightReport | SelectionReport, dict[str, float | Tensor]]:
        """Return what the agents learn from; log the losses, and p and r of every iteration."""
        losses, self.loss.report = self.loss.report, None  # releases the step's outputs
        output, truth = losses.output, finest(batch["target"]).to(self.device)
        probabilities = self._true_label_probabilities([one.decision for one in output.iterations], truth)
        mean = probabilities.mean(0)
        values = {
            **dict(zip(self.loss_keys, (losses.fused, losses.decision, *losses.modalities), strict=True)),
            **dict(zip(self.probability_keys, mean, strict=True)),
            **dict(zip(self.reward_keys, mean.diff(), strict=True)),
        }
        if SELECTION in self.agents:
            rewards = None
            if output.selection is not None:
                without = self._true_label_probabilities(output.selection.decisions, truth)
                rewards = torch.cat((without - probabilities, torch.zeros_like(probabilities)), dim=1)
            return SelectionReport(batch, loss, self.progress, output.selection, rewards), values
        episodes, gains = {}, None
        if output.exploration is not None:
            drawn = self._true_label_probabilities(output.exploration.decisions, truth)
            gains = torch.cat((torch.zeros_like(drawn[:, :1]), drawn - probabilities[:, 1:]), dim=1)
            episodes = output.exploration.episodes
        return WeightReport(batch, loss, self.progress, output.weights, episodes, gains), values

    def _true_label_probabilities(self, decisions: Sequence[Tensor], truth: Tensor) -> Tensor:
        """Return the probabilities of the true label in some decisions, (B, decisions)."""
        options = {"regions": self.label_manager.has_regions, "ignore_label": self.label_manager.ignore_label}
        return torch.stack([true_label_probability(decision, truth, **options) for decision in decisions], dim=1)

    def own_panels(self) -> Sequence[Panel]:
        """Return the losses, and what the agents make of the decision."""
        panels = [
            Panel("training loss of the outputs", "Dice loss + cross entropy", tuple(self.loss_keys)),
            Panel("probability of the true label per iteration", "probability", tuple(self.probability_keys)),
        ]
        if self.reward_keys:
            title = "the paper's reward per iteration, mean actions"
            panels.append(Panel(title, "increment of the probability", tuple(self.reward_keys)))
        return panels


class IntraInterTrainerSGD(IntraInterTrainer):
    """With nnU-Net's own optimizer for the backbone."""

    settings = replace(IntraInterTrainer.settings, adam=None)
