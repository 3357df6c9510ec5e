"""``RLXAlignTrainer``: RL-U2Net with RL-XAlign, AGWD and pose agents, on nnU-Net's training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgenerators.utilities.file_and_folder_operations import join
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from rl_nnunet.agents.pose_agents import PoseAgents, label_cube
from rl_nnunet.branches import BranchLayout, layout_from_dataset_json
from rl_nnunet.dataloading.unpaired_loader import UnpairedDataLoader
from rl_nnunet.evaluation.per_branch import summarize_per_branch
from rl_nnunet.losses.adaptive_weights import AdaptiveWeights
from rl_nnunet.losses.branched_loss import BranchedLoss
from rl_nnunet.networks.architecture import with_branches
from rl_nnunet.networks.presence import absent_channels, present_groups, rows_of
from rl_nnunet.progress_plot import Panel, plot_progress
from rl_nnunet.trainers.agent_trainer import AgentTrainer, mean_without_nan, refusing
from rl_nnunet.training_settings import TrainingSettings

PANELS = (
    Panel("training loss per branch", ("train_loss_",), "Dice loss + cross entropy"),
    Panel("pseudo Dice per branch, other branches withheld", ("pseudo_dice_",), "Dice"),
    Panel("AGWD weights", ("agwd_dice_", "agwd_cross_entropy_"), "weight"),
    Panel("agents' reward and similarity", ("reward_", "similarity_"), "reward"),
    Panel("policy entropy", ("policy_entropy_",), "nats"),
    Panel("most probable rotation", ("rotation_",), "index, 0 is the identity"),
)


class RLXAlignTrainer(AgentTrainer):
    """Train RL-U2Net on paired or unpaired branches.

    Attributes
    ----------
    settings : TrainingSettings
        Losses and agents; ablations replace it.
    """

    settings = TrainingSettings()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.aligned_stages = self.configuration_manager.network_arch_init_kwargs["aligned_stages"]
        self.add_log_keys(self._log_keys())

    def prepare_plans(
        self, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """See `with_branches`."""
        prepared = with_branches(plans, configuration, dataset_json, self.architecture_overrides)
        self.layout: BranchLayout = layout_from_dataset_json(dataset_json)
        return prepared

    @property
    def _is_unpaired(self) -> bool:
        return self.layout.pairing == "unpaired"

    # ---- agents and loss -------------------------------------------------------------------------------------------

    def build_agents(self) -> PoseAgents:
        """Return an agent per aligned stage."""
        policies = [module.policy for module in self.module.xalign.values()]
        return PoseAgents(policies, len(self.layout.branches), self.settings.ppo, self.device)

    def _build_loss(self) -> BranchedLoss:
        """Build the branched loss around nnU-Net's own, taken twice: for Dice alone and for cross entropy alone."""
        dice, cross_entropy = super()._build_loss(), super()._build_loss()
        for loss, dropped in ((dice, "weight_ce"), (cross_entropy, "weight_dice")):
            setattr(loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss, dropped, 0)
        config, branches = self.settings.adaptive_weights, len(self.layout.branches)
        dice_weights, entropy_weights = (
            (AdaptiveWeights(branches, config), AdaptiveWeights(branches, config)) if config else (None, None)
        )
        return BranchedLoss(
            dice,
            cross_entropy,
            branches,
            own_targets=self._is_unpaired,
            dice_weights=dice_weights,
            cross_entropy_weights=entropy_weights,
            alignment=self.settings.alignment_loss,
        )

    # ---- data ------------------------------------------------------------------------------------------------------

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders for paired data, and loaders that compose one case per branch for unpaired data."""
        if not self._is_unpaired:
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
            loader = UnpairedDataLoader(
                dataset,
                self.layout,
                self.label_manager,
                transforms,
                needs_every_branch=is_training,
                batch_size=self.batch_size,
                patch_size=patch_size,
                final_patch_size=self.configuration_manager.patch_size,
                oversample_foreground_percent=self.oversample_foreground_percent,
                probabilistic_oversampling=self.probabilistic_oversampling,
            )
        for name in loader.missing:
            self.print_to_log_file(
                f"NOTE: No validation case of fold {self.fold} has the branch {name}: its pseudo Dice is not a number."
            )
        if get_allowed_n_proc_DA() == 0:
            augmenter = SingleThreadedAugmenter(loader, None)
        else:
            augmenter = NonDetMultiThreadedAugmenter(
                loader,
                None,
                max(1, processes),
                num_cached=max(3, processes // 2),
                pin_memory=self.device.type == "cuda",
                wait_time=0.002,
            )
        next(augmenter)  # starts the background processes
        return augmenter

    # ---- training --------------------------------------------------------------------------------------------------

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does, then let the agents learn from the step."""
        result = super().train_step(batch)
        report = self.loss.report
        learnt = []
        if report.output.alignments:
            learnt = self.agents.learn(
                report.output.alignments,
                report.dice,
                self._label_cubes(batch["target"], report.output),
                self.current_epoch / self.num_epochs,
            )
        self.loss.report = None  # releases the step's feature maps
        branches = range(len(self.layout.branches))
        stages = range(len(self.aligned_stages))
        result["branch_loss"] = np.array([report.segmentation.get(b, np.nan) for b in branches])
        result["agwd_dice"] = np.array(report.dice_weights)
        result["agwd_cross_entropy"] = np.array(report.cross_entropy_weights)
        result["alignment_loss"] = report.alignment
        for key in ("reward", "similarity", "entropy", "rotation"):
            result[key] = np.array([learnt[s][key] if learnt else np.nan for s in stages])
        return result

    def _label_cubes(self, target: Any, output: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the label cubes of the links' main and auxiliary samples, where the similarity is anatomical."""
        if self.settings.similarity != "anatomical":
            return None
        finest = target[0] if isinstance(target, list) else target
        samples = list(range(len(finest)))
        num_classes = None if self.label_manager.has_regions else len(self.label_manager.foreground_labels)
        cubes = []
        for branch in range(len(self.layout.branches)):
            labels = self.loss.target_of_branch(finest, branch, samples).to(self.device)
            if self.label_manager.has_regions and self.label_manager.has_ignore_label:
                labels = labels[:, :-1]
            cubes.append(label_cube(labels, num_classes))
        stacked = torch.stack(cubes)
        links = torch.tensor(output.link_samples, device=self.device)
        main, auxiliary = output.alignments[0].context["branches"].unbind(1)
        return stacked[main, links], stacked[auxiliary, links]

    # ---- validation ------------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict) -> dict:
        """Validate each branch alone, as nnU-Net does; on paired data also all branches together.

        nnU-Net's pseudo Dice is that of all branches together on paired data, and that of the branches alone on
        unpaired data, where no label map belongs to a pair.
        """
        per_branch = [self._validate_alone(batch, branch) for branch in range(len(self.layout.branches))]
        keys = ("tp_hard", "fp_hard", "fn_hard")
        if self._is_unpaired:
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
        target = self.loss.target_of_branch(batch["target"], branch, rows)
        # nnU-Net's step overwrites the ignore label in the target.
        target = [t.clone() for t in target] if isinstance(target, list) else target.clone()
        return super().validation_step({"data": data, "target": target})

    def _rows_with(self, branch: int, batch: dict) -> list[int]:
        """Return the samples that have a branch; in unpaired data, all or none of a batch have it."""
        if self._is_unpaired:
            return list(range(len(batch["data"]))) if batch["keys"][self.layout.names[branch]] else []
        blank_values = self.module.blank_values.to(batch["data"].device)
        absent = absent_channels(batch["data"], self.layout.channels, blank_values)
        return rows_of(present_groups(absent, self.layout.channels))[branch]

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, then report the Dice per branch."""
        super().perform_actual_validation(save_probabilities)
        _, identifiers = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, identifiers)
        table = summarize_per_branch(join(self.output_folder, "validation"), dataset, self.layout)
        self.print_to_log_file(f"Mean validation Dice per branch:\n{table}")

    # ---- logging ---------------------------------------------------------------------------------------------------

    def _log_keys(self) -> list[str]:
        per_branch = ("train_loss", "pseudo_dice", "agwd_dice", "agwd_cross_entropy")
        per_stage = ("reward", "similarity", "policy_entropy", "rotation")
        return [
            "alignment_loss",
            *(f"{key}_{name}" for key in per_branch for name in self.layout.names),
            *(f"{key}_stage{stage}" for key in per_stage for stage in self.aligned_stages),
        ]

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log as nnU-Net does, and what the branches and agents did."""
        super().on_train_epoch_end(train_outputs)
        self.logger.log("alignment_loss", np.mean([o["alignment_loss"] for o in train_outputs]), self.current_epoch)
        columns = {"train_loss": "branch_loss", "agwd_dice": "agwd_dice", "agwd_cross_entropy": "agwd_cross_entropy"}
        for key, source in columns.items():
            means = mean_without_nan([o[source] for o in train_outputs])
            for name, value in zip(self.layout.names, means, strict=True):
                self.logger.log(f"{key}_{name}", value, self.current_epoch)
        for key, source in {"reward": "reward", "similarity": "similarity", "policy_entropy": "entropy"}.items():
            means = mean_without_nan([o[source] for o in train_outputs])
            for stage, value in zip(self.aligned_stages, means, strict=True):
                self.logger.log(f"{key}_stage{stage}", value, self.current_epoch)
        for column, stage in enumerate(self.aligned_stages):
            drawn = [o["rotation"][column] for o in train_outputs if not np.isnan(o["rotation"][column])]
            mode = float(np.bincount(np.array(drawn, dtype=int)).argmax()) if drawn else np.nan
            self.logger.log(f"rotation_stage{stage}", mode, self.current_epoch)

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log as nnU-Net does, and the pseudo Dice of every branch alone."""
        super().on_validation_epoch_end(val_outputs)
        tp, fp, fn = (
            np.sum([o[f"{key}_per_branch"] for o in val_outputs], axis=0) for key in ("tp_hard", "fp_hard", "fn_hard")
        )
        denominator = 2 * tp + fp + fn
        dice = np.divide(2 * tp, denominator, out=np.full(tp.shape, np.nan), where=denominator > 0)
        for name, value in zip(self.layout.names, mean_without_nan(dice.T), strict=True):
            self.logger.log(f"pseudo_dice_{name}", value, self.current_epoch)

    def on_epoch_end(self) -> None:
        """Finish the epoch as nnU-Net does; print and draw what the branches and agents did."""
        for key in self._log_keys():
            if key.startswith(("train_loss", "pseudo_dice", "reward", "policy_entropy", "rotation")):
                self.print_to_log_file(key, np.round(self.logger.get_value(key, step=-1), decimals=4))
        super().on_epoch_end()
        log = self.logger.local_logger.my_fantastic_logging
        plot_progress({key: log[key] for key in self._log_keys()}, PANELS, join(self.output_folder, "progress_rl.png"))

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return AGWD's moving averages."""
        return {"adaptive_weights": [w.state_dict() for w in self._adaptive_weights()]}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore AGWD's moving averages."""
        for weights, weights_state in zip(self._adaptive_weights(), state["adaptive_weights"], strict=True):
            weights.load_state_dict(weights_state)

    def _adaptive_weights(self) -> list[AdaptiveWeights]:
        return [w for w in (self.loss.dice_weights, self.loss.cross_entropy_weights) if w is not None]
