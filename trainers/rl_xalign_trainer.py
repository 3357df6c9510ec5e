"""``RLXAlignTrainer``: RL-U2Net with RL-XAlign, AGWD and pose agents, on nnU-Net's training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import Tensor

from rl_nnunet.agents.agent import Agent, ValidationReport
from rl_nnunet.agents.loss_weights import LossWeightAgent, LossWeightConfig
from rl_nnunet.agents.pose import PoseAgent, PoseReport
from rl_nnunet.agents.rewards import anatomical_similarities, label_cube, sample_labels
from rl_nnunet.case_table import read_patients
from rl_nnunet.dataloading.augmenter import start_augmenter
from rl_nnunet.dataloading.unpaired_loader import UnpairedDataLoader
from rl_nnunet.dataloading.unregistered_loader import UnregisteredDataLoader
from rl_nnunet.distributed import gather
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.per_branch import summarize_per_branch
from rl_nnunet.losses.adaptive_weights import AdaptiveWeights
from rl_nnunet.losses.branched_loss import BranchedLoss, BranchWeights
from rl_nnunet.outputs import BranchOutput, to_device
from rl_nnunet.plans.checks import PLAN_ANEW
from rl_nnunet.plans.companions import planned_companions
from rl_nnunet.plans.modality_shares import MODALITY_DEGRADATION
from rl_nnunet.plans.rl_u2net import RLU2NetPlan
from rl_nnunet.presence.patches import absent_channels, present_groups, rows_of
from rl_nnunet.progress_plot import Panel, mean
from rl_nnunet.targets import BranchTargets, Target, finest
from rl_nnunet.trainers.rl_xalign_settings import RLXAlignSettings
from rl_nnunet.training.absent_channels import AbsentChannels
from rl_nnunet.training.adapted_plans import AdaptedPlans
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.degraded_modalities import DegradedModalities
from rl_nnunet.training.loss_terms import joint_dice, of_one_rank, without_term
from rl_nnunet.training.refusal import refusing


class RLXAlignTrainer(AgentTraining, AbsentChannels, DegradedModalities, AdaptedPlans, nnUNetTrainer):
    """Train RL-U2Net on paired or unpaired branches.

    Attributes
    ----------
    settings : RLXAlignSettings
        Losses and agents; ablations replace it.
    """

    settings = RLXAlignSettings()
    network_plan = RLU2NetPlan()

    @property
    def _targets(self) -> BranchTargets:
        return BranchTargets(len(self.layout.branches), are_joined=not self.layout.is_paired)

    def initialize(self) -> None:
        """Initialize as nnU-Net does; refuse to degrade scans beside which no other shows the same labels."""
        super().initialize()
        with refusing():
            if self.degraded_share > 0 and not self.layout.is_paired:
                raise InputError(
                    f"{MODALITY_DEGRADATION} in the plans degrades one of several modalities that share a label map, "
                    "but each scan of this data set has labels of its own; remove it from the plans."
                )

    # ---- agents and loss -------------------------------------------------------------------------------------------

    def build_agents(self) -> dict[str, Agent]:
        """Return an agent per aligned stage, and the one that weighs the losses where there is one."""
        branches, ppo = len(self.layout.branches), self.settings.ppo
        agents: dict[str, Agent] = {
            f"pose_stage{stage}": PoseAgent(int(stage), module.policy, branches, ppo, self.device)
            for stage, module in self.module.xalign.items()
        }
        weights = self.loss.dice_weights
        return {**agents, "loss_weights": weights} if isinstance(weights, LossWeightAgent) else agents

    def _build_loss(self) -> BranchedLoss:
        """Build the branched loss around nnU-Net's own, taken twice: for Dice alone and for cross entropy alone."""
        dice_weights, cross_entropy_weights = self._build_weights()
        sums_over_ranks = self.is_ddp and self.configuration_manager.batch_dice
        return BranchedLoss(
            without_term(of_one_rank(super()._build_loss()), "weight_ce"),
            without_term(of_one_rank(super()._build_loss()), "weight_dice"),
            self._targets,
            dice_weights=dice_weights,
            cross_entropy_weights=cross_entropy_weights,
            alignment=self.settings.alignment_loss,
            joint_dice=joint_dice(super()._build_loss()) if sums_over_ranks else None,
        )

    def _build_weights(self) -> tuple[BranchWeights | None, BranchWeights | None]:
        """Build what weighs the branches' Dice losses and cross entropies: one agent for both, or AGWD for each."""
        config = self.settings.loss_weights
        if isinstance(config, LossWeightConfig):
            agent = LossWeightAgent(self.layout.names, config)
            return agent, agent
        branches = len(self.layout.branches)
        return config and AdaptiveWeights(branches, config), config and AdaptiveWeights(branches, config)

    # ---- data ------------------------------------------------------------------------------------------------------

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders for paired data, and loaders that compose one case per branch for unpaired data."""
        if self.layout.is_paired:
            return super().get_dataloaders()
        patch_size = self.configuration_manager.patch_size
        scales = self._get_deep_supervision_scales()
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        labels = {
            "foreground_labels": self.label_manager.foreground_labels,
            "regions": self.label_manager.foreground_regions if self.label_manager.has_regions else None,
            "ignore_label": self.label_manager.ignore_label,
        }
        masks = self.configuration_manager.use_mask_for_norm

        def training_transforms(channels: Sequence[int]) -> BasicTransform:
            return self.get_training_transforms(
                patch_size, rotation, scales, mirror_axes, dummy_2d,
                use_mask_for_norm=[masks[c] for c in channels], channels=channels, **labels,
            )  # fmt: skip

        def validation_transforms(channels: Sequence[int]) -> BasicTransform:
            return self.get_validation_transforms(scales, **labels)

        training, validation = self.get_tr_and_val_datasets()
        processes = get_allowed_n_proc_DA()
        return (
            self._augmenter(training, training_transforms, initial_patch_size, processes, is_training=True),
            self._augmenter(validation, validation_transforms, patch_size, processes // 2, is_training=False),
        )

    def _augmenter(
        self, dataset: Any, transforms: Any, patch_size: Sequence[int], processes: int, is_training: bool
    ) -> Any:
        """Start an unpaired loader with nnU-Net's kind of augmenter: in this process, or in background processes."""
        with refusing():
            loader_class, options = self._loader(dataset, is_training=is_training)
            loader = loader_class(
                dataset,
                self.layout,
                self.label_manager,
                transforms,
                matched_share=self.settings.matched_classes,
                needs_every_branch=is_training,
                batch_size=self.batch_size,
                patch_size=patch_size,
                final_patch_size=self.configuration_manager.patch_size,
                oversample_foreground_percent=self.oversample_foreground_percent,
                probabilistic_oversampling=self.probabilistic_oversampling,
                **options,
            )
        for name in loader.missing:
            self.print_to_log_file(
                f"NOTE: No validation case of fold {self.fold} has the branch {name}: its pseudo Dice is not a number."
            )
        if isinstance(loader, UnregisteredDataLoader):
            self.print_to_log_file(loader.describe())
        return start_augmenter(loader, processes, pin_memory=self.device.type == "cuda")

    def _loader(self, dataset: Any, *, is_training: bool) -> tuple[type[UnpairedDataLoader], dict[str, Any]]:
        """Return the loader of unpaired data, or the one that takes scans of one patient together, and its options.

        In validation, each branch is alone.
        """
        if not is_training or self.layout.pairing != "unregistered":
            return UnpairedDataLoader, {}
        config = planned_companions(self.configuration_manager.configuration)
        folder = Path(self.preprocessed_dataset_folder_base)
        return UnregisteredDataLoader, {
            "patients": read_patients(folder, dataset.identifiers, PLAN_ANEW),
            "transpose_forward": self.plans_manager.transpose_forward,
            "spacing": self.configuration_manager.spacing,
            **asdict(config),
        }

    # ---- training --------------------------------------------------------------------------------------------------

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does; tell loss and network, which nnU-Net hands nothing else, what the branches show."""
        self.loss.matched = batch.get("matched")
        self.module.together = batch.get("together")
        return super().train_step(batch)

    def describe_step(self, batch: dict[str, Any], loss: float) -> tuple[PoseReport, dict[str, float | Tensor]]:
        """Return what the agents learn from; log the losses of branches and alignment, and the branches' weights."""
        losses, self.loss.report = self.loss.report, None  # releases the step's feature maps
        output, names = losses.output, self.layout.names
        alignments = dict(zip(map(int, self.module.xalign), output.alignments, strict=False))
        similarities = self._similarities(batch["target"], output) if losses.matched_links else None
        values = {
            **({"alignment_loss": losses.alignment} if losses.matched_links else {}),
            **{f"train_loss_{names[b]}": value for b, value in losses.segmentation.items()},
            **{f"dice_weight_{name}": w for name, w in zip(names, losses.dice_weights, strict=True)},
            **{f"cross_entropy_weight_{name}": w for name, w in zip(names, losses.cross_entropy_weights, strict=True)},
        }
        report = PoseReport(
            batch,
            loss,
            self.progress,
            alignments,
            output.link_branches,
            losses.matched_links,
            losses.dice,
            similarities,
        )
        return report, values

    def _similarities(self, target: Target, output: BranchOutput) -> Tensor | None:
        """Return the overlap of the links' label maps after every rotation, where the similarity is anatomical."""
        if self.settings.similarity != "anatomical" or not output.alignments:
            return None
        num_classes = None if self.label_manager.has_regions else len(self.label_manager.foreground_labels)
        cubes = []
        for branch in range(len(self.layout.branches)):
            # nnU-Net leaves the batch on the host: a sample of the voxels is all that has to move.
            labels = sample_labels(self._targets.take(finest(target), branch)).to(self.device, non_blocking=True)
            if self.label_manager.has_regions and self.label_manager.has_ignore_label:
                labels = labels[:, :-1]
            cubes.append(label_cube(labels, num_classes))
        stacked = torch.stack(cubes)
        samples = to_device(output.link_samples, self.device)
        main, auxiliary = output.alignments[0].context["branches"].unbind(1)
        return anatomical_similarities(stacked[main, samples], stacked[auxiliary, samples])

    def own_panels(self) -> Sequence[Panel]:
        """Return the branches' losses and pseudo Dice, the weights of their losses and the alignment loss."""

        def per_branch(*keys: str) -> tuple[str, ...]:
            return tuple(f"{key}_{name}" for key in keys for name in self.layout.names)

        return (
            Panel("training loss per branch", "Dice loss + cross entropy", per_branch("train_loss")),
            Panel("pseudo Dice per branch, other branches withheld", "Dice", per_branch("pseudo_dice"), None),
            Panel("weights of the branches' losses", "weight", per_branch("dice_weight", "cross_entropy_weight")),
            Panel("alignment loss", "InfoNCE + cosine", ("alignment_loss",)),
        )

    # ---- validation ------------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict) -> dict:
        """Validate each branch alone, as nnU-Net does; on paired data also all branches together.

        nnU-Net's pseudo Dice is that of all branches together on paired data, and that of the branches alone on
        unpaired data, where no label map belongs to a pair.
        """
        per_branch = [self._validate_alone(batch, branch) for branch in range(len(self.layout.branches))]
        keys = ("tp_hard", "fp_hard", "fn_hard")
        if not self.layout.is_paired:
            result = {key: sum(r[key] for r in per_branch) for key in keys}
            result["loss"] = np.nanmean([r["loss"] for r in per_branch])
        else:
            result = super().validation_step(batch)
        for key in keys:
            result[f"{key}_per_branch"] = np.stack([r[key] for r in per_branch])
        return result

    def _validate_alone(self, batch: dict, branch: int) -> dict:
        channels, rows = list(self.layout.branches[branch].channels), self._rows_with(branch, batch)
        if not rows:
            heads = self.label_manager.num_segmentation_heads - (not self.label_manager.has_regions)
            return {"loss": np.nan, **dict.fromkeys(("tp_hard", "fp_hard", "fn_hard"), np.zeros(heads))}
        data = torch.zeros_like(batch["data"][rows])
        data[:, channels] = batch["data"][rows][:, channels]
        target = self._targets.take(batch["target"], branch, rows)
        # nnU-Net's step overwrites the ignore label in the target.
        target = [t.clone() for t in target] if isinstance(target, list) else target.clone()
        return super().validation_step({"data": data, "target": target})

    def _rows_with(self, branch: int, batch: dict) -> list[int]:
        """Return the samples that have a branch; in unpaired data, all or none of a batch have it."""
        if not self.layout.is_paired:
            return list(range(len(batch["data"]))) if batch["keys"][self.layout.names[branch]] else []
        blank_values = self.module.blank_values.to(batch["data"].device)
        absent = absent_channels(batch["data"], self.layout.channels, blank_values)
        return rows_of(present_groups(absent, self.layout.channels))[branch]

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, then report the Dice per branch."""
        super().perform_actual_validation(save_probabilities)
        if self.local_rank != 0:
            return
        _, identifiers = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, identifiers)
        table = summarize_per_branch(join(self.output_folder, "validation"), dataset, self.layout)
        self.print_to_log_file(f"Mean validation Dice per branch:\n{table}")

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log as nnU-Net does, and the pseudo Dice of every branch alone."""
        super().on_validation_epoch_end(val_outputs)
        everywhere = [output for of_rank in gather(val_outputs) for output in of_rank]
        tp, fp, fn = (
            np.sum([o[f"{key}_per_branch"] for o in everywhere], axis=0) for key in ("tp_hard", "fp_hard", "fn_hard")
        )
        denominator = 2 * tp + fp + fn
        dice = np.divide(2 * tp, denominator, out=np.full(tp.shape, np.nan), where=denominator > 0)
        for name, values in zip(self.layout.names, dice, strict=True):
            self.logger.log(f"pseudo_dice_{name}", mean(values), self.current_epoch)

    def describe_validation(self) -> ValidationReport:
        """Return what the agents learn from at the end of an epoch, with the pseudo Dice of every branch alone."""
        scores = {name: self.logger.get_value(f"pseudo_dice_{name}", step=-1) for name in self.layout.names}
        return replace(super().describe_validation(), branch_scores=scores)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return AGWD's moving averages."""
        return {"adaptive_weights": [w.state_dict() for w in self._adaptive_weights()]}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore AGWD's moving averages."""
        for weights, weights_state in zip(self._adaptive_weights(), state["adaptive_weights"], strict=True):
            weights.load_state_dict(weights_state)

    def _adaptive_weights(self) -> list[AdaptiveWeights]:
        weights = (self.loss.dice_weights, self.loss.cross_entropy_weights)
        return [w for w in weights if isinstance(w, AdaptiveWeights)]
