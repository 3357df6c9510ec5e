"""``IntraInterTrainer``: the intra- and the inter-modality agent on nnU-Net's training loop, for paired data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.agents.gaussian_policy import weights_of
from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.agents.weight_agents import PAPER_PPO, WeightAgents
from rl_nnunet.losses.confidence import true_label_probability
from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.networks.intra_inter_architecture import with_modalities
from rl_nnunet.progress_plot import Panel, plot_progress
from rl_nnunet.trainers.agent_trainer import AgentTrainer, mean_without_nan

PAPER_LEARNING_RATE, PAPER_WEIGHT_DECAY = 1e-4, 1e-5
"""Of the backbone's Adam, section 3.1."""

PANELS = (
    Panel("training loss of the outputs", ("loss_",), "Dice loss + cross entropy"),
    Panel("probability of the true label per iteration", ("probability_",), "probability"),
    Panel("reward per iteration", ("reward_",), "increment of the probability"),
    Panel("inter agent: weight of each modality in the last iteration", ("weight_",), "weight"),
    Panel("intra agent: standard deviation over the channels' weights", ("intra_spread",), "weight"),
    Panel("standard deviation of the agents' actions", ("exploration_",), "standard deviation"),
)


class IntraInterTrainer(AgentTrainer):
    """Train one encoder per modality with the agents of Zhang et al. (see `rl_nnunet.networks.intra_inter_net`).

    The backbone and each agent have an Adam of their own, with the paper's learning rates and weight decay; nnU-Net's
    polynomial decay is kept. The network is not compiled: it computes iterations a second time for their gradient.

    Attributes
    ----------
    ppo : PPOConfig
        Of both agents.
    """

    ppo: PPOConfig = PAPER_PPO

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.set_backbone_hyperparameters()
        arguments = self.configuration_manager.network_arch_init_kwargs
        self.modalities: list[str] = arguments["modality_names"]
        self.output_names = ["fused", "decision", *self.modalities]
        self.iterations: int = arguments["iterations"]
        self.agent_names: list[str] = arguments["agents"]
        self.add_log_keys(self._log_keys())

    def prepare_plans(
        self, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """See `with_modalities`."""
        return with_modalities(plans, configuration, dataset_json, self.architecture_overrides)

    def build_agents(self) -> WeightAgents:
        """Return the agents of the plans."""
        return WeightAgents(dict(self.module.agents.items()), self.ppo, self.device)

    def _build_loss(self) -> IteratedLoss:
        """Build eq. 2 around nnU-Net's own loss; the decision and the modalities' own outputs have one scale only."""
        loss = super()._build_loss()
        return IteratedLoss(loss, loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss)

    def _do_i_compile(self) -> bool:
        return False

    def set_backbone_hyperparameters(self) -> None:
        """Replace nnU-Net's learning rate and weight decay by the paper's."""
        self.initial_lr, self.weight_decay = PAPER_LEARNING_RATE, PAPER_WEIGHT_DECAY

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return the paper's Adam for everything but the agents, with nnU-Net's schedule."""
        backbone = [p for name, p in self.module.named_parameters() if not name.startswith("agents.")]
        optimizer = torch.optim.Adam(backbone, self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    # ---- training --------------------------------------------------------------------------------------------------

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does, then let the agents learn from the step."""
        result = super().train_step(batch)
        report = self.loss.report
        probabilities = self._true_label_probabilities(report.output, batch["target"])
        if self.agent_names:
            self.agents.learn(report.output.episodes, probabilities)
        self.loss.report = None  # releases the step's outputs
        mean = probabilities.mean(0)
        result["loss_outputs"] = np.array([report.fused, report.decision, *report.modalities])
        result["probability"] = mean.cpu().numpy()
        result["reward"] = mean.diff().cpu().numpy()
        weights = {name: weights_of(episode.actions[:, -1]) for name, episode in report.output.episodes.items()}
        if "inter" in weights:
            result["weight"] = weights["inter"].mean(0).cpu().numpy()
        if "intra" in weights:
            result["intra_spread"] = np.array([weights["intra"].std(1).mean().item()])
        return result

    def _true_label_probabilities(self, output: Any, target: Any) -> torch.Tensor:
        """Return p_0 to p_T of every sample, (B, T + 1)."""
        finest = (target[0] if isinstance(target, list) else target).to(self.device)
        options = {"regions": self.label_manager.has_regions, "ignore_label": self.label_manager.ignore_label}
        return torch.stack(
            [true_label_probability(iteration.decision, finest, **options) for iteration in output.iterations], dim=1
        )

    # ---- logging ---------------------------------------------------------------------------------------------------

    def _log_keys(self) -> list[str]:
        return [
            *(f"loss_{name}" for name in self.output_names),
            *(f"probability_iteration{t}" for t in range(self.iterations + 1)),
            *(f"reward_iteration{t}" for t in range(1, self.iterations + 1)),
            *(f"weight_{name}" for name in self.modalities if "inter" in self.agent_names),
            *(["intra_spread"] if "intra" in self.agent_names else []),
            *(f"exploration_{name}" for name in self.agent_names),
        ]

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log as nnU-Net does, and what the outputs and agents did."""
        super().on_train_epoch_end(train_outputs)

        def means(key: str) -> list[float]:
            return mean_without_nan([output[key] for output in train_outputs]).tolist()

        values = {f"loss_{name}": x for name, x in zip(self.output_names, means("loss_outputs"), strict=True)}
        values |= {f"probability_iteration{t}": p for t, p in enumerate(means("probability"))}
        if self.agent_names:
            values |= {f"reward_iteration{t}": r for t, r in enumerate(means("reward"), start=1)}
        if "inter" in self.agent_names:
            values |= {f"weight_{m}": w for m, w in zip(self.modalities, means("weight"), strict=True)}
        if "intra" in self.agent_names:
            values["intra_spread"] = means("intra_spread")[0]
        for name, policy in self.module.agents.items():
            values[f"exploration_{name}"] = policy.log_standard_deviation.exp().mean().item()
        for key, value in values.items():
            self.logger.log(key, value, self.current_epoch)

    def on_epoch_end(self) -> None:
        """Finish the epoch as nnU-Net does; print and draw what the outputs and agents did."""
        for key in self._log_keys():
            self.print_to_log_file(key, np.round(self.logger.get_value(key, step=-1), decimals=4))
        super().on_epoch_end()
        log = self.logger.local_logger.my_fantastic_logging
        plot_progress({key: log[key] for key in self._log_keys()}, PANELS, join(self.output_folder, "progress_rl.png"))


class IntraInterTrainerSGD(IntraInterTrainer):
    """With nnU-Net's own optimizer for the backbone."""

    def set_backbone_hyperparameters(self) -> None:
        """Keep nnU-Net's."""

    def configure_optimizers(self) -> tuple[Any, Any]:
        """See nnU-Net's trainer; the agents' parameters have no gradient there."""
        return nnUNetTrainer.configure_optimizers(self)
