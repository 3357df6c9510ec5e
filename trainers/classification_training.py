"""What turns an nnU-Net trainer with a network of ours into one of a classifier: a mixin.

nnU-Net's loop, checkpoints, logs and commands stay. Its pseudo Dice, by which the best checkpoint is chosen, is the
balanced accuracy here, over all validation cases, each once; what it logs per class is the recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgenerators.utilities.file_and_folder_operations import load_json
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import Tensor

from rl_nnunet.class_folds import lacking_class
from rl_nnunet.class_table import CLASS_TABLE, ClassLabels, read_classes
from rl_nnunet.dataloading.augmenter import start_augmenter
from rl_nnunet.dataloading.classification_loader import ClassificationLoader, EveryCaseLoader, balanced_probabilities
from rl_nnunet.dataloading.resize import Resize
from rl_nnunet.dataloading.structure_box import StructureBox, foreground_locations
from rl_nnunet.distributed import gather, rank, world_size
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.class_probabilities import class_probabilities
from rl_nnunet.evaluation.classification_metrics import (
    ClassificationMetrics,
    classification_metrics,
    format_metrics,
    write_summary,
)
from rl_nnunet.losses.classification_loss import ClassificationLoss
from rl_nnunet.plans.checks import PLAN_ANEW
from rl_nnunet.plans.classification import planned_crop
from rl_nnunet.progress_plot import Panel
from rl_nnunet.training.expected_classes import expecting_classes
from rl_nnunet.training.refusal import refusing

TEST_PART = "test"
"""Of a fold in ``splits_final.json``: nnU-Net does not know it, and it is evaluated with the final validation."""
LOGGED = ("accuracy", "balanced_accuracy", "f1", "auc")


class ClassificationTraining:
    """Goes before all else in the list of bases of a trainer whose network gives logits (B, classes)."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False

    def initialize(self) -> None:
        """Build the network and all that goes with it."""
        with expecting_classes():
            super().initialize()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: there is no decoder."""

    # ---- labels and loss -------------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> ClassLabels:
        """The classes, and that of each preprocessed case."""
        folder, cases = Path(self.preprocessed_dataset_folder_base), self.dataset_class.get_identifiers
        with refusing():
            classes = read_classes(folder, self.dataset_json, cases(self.preprocessed_dataset_folder))
            planned = tuple(self.configuration_manager.network_arch_init_kwargs["class_names"])
            if planned != classes.names:
                raise InputError(
                    f"{folder / CLASS_TABLE} has the classes {', '.join(classes.names)}, but the plans "
                    f"{self.plans_manager.plans_name} were made for {', '.join(planned)}; {PLAN_ANEW}."
                )
        return classes

    def labels_of(self, cases: Sequence[str]) -> Tensor:
        """Return the classes of some cases, integers (cases,), on the trainer's device."""
        return torch.tensor([self.classes.labels[str(case)] for case in cases], device=self.device)

    def with_labels(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch whose target is the class of each sample, which follows from its keys."""
        return {**batch, "target": self.labels_of(batch["keys"])}

    def _build_loss(self) -> ClassificationLoss:
        return ClassificationLoss()

    def losses_of(self, output: Any, labels: Tensor) -> Tensor:
        """Return the loss of each sample, (B,), of what the network returns in training or evaluation."""
        return ClassificationLoss().per_sample(self.decision_of(output), labels)

    def decision_of(self, output: Any) -> Tensor:
        """Return the logits (B, classes) that a prediction is made of, given what the network returns."""
        return output

    # ---- data ------------------------------------------------------------------------------------------------------

    @cached_property
    def _box(self) -> StructureBox:
        with refusing():
            crop = planned_crop(self.configuration_manager.configuration)
        return StructureBox(crop, self.configuration_manager.spacing)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return the augmentation of what was resized to the planned cube."""
        size = self.configuration_manager.patch_size
        return ComposeTransforms([Resize(size), super().get_training_transforms(*args, **kwargs)])

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets, once it is clear that each has every class, and every case something to crop."""
        training, validation = super().get_tr_and_val_datasets()
        with refusing():
            for name, part in (("training", training), ("validation", validation)):
                lacking = lacking_class(part.identifiers, self.classes.labels, self.classes.names)
                if lacking is not None:
                    raise InputError(
                        f"No {name} case of fold {self.fold} has the class {lacking}; remove splits_final.json from "
                        "the data set in nnUNet_raw and nnUNet_preprocessed and plan again, mend it, or train fold all."
                    )
                for case in part.identifiers if not self._box.is_whole else ():
                    if not foreground_locations(part.load_case(case)[3].get("class_locations", {})):
                        raise InputError(
                            f"Nothing is labeled in the case {case}, but the plans crop to what is; label it, remove "
                            'it, or plan with "crop": "image" under "rl_nnunet" in dataset.json.'
                        )
            if len(validation.identifiers) < world_size():
                raise InputError(
                    f"Fold {self.fold} has {len(validation.identifiers)} validation cases, and each GPU needs one of "
                    "its own; train with fewer (-num_gpus)."
                )
        return training, validation

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return batches in which all classes are equally likely, and rounds over all validation cases."""
        size = self.configuration_manager.patch_size
        rotation, dummy_2d, _, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        masks = self.configuration_manager.use_mask_for_norm
        transforms = self.get_training_transforms(size, rotation, None, mirror_axes, dummy_2d, use_mask_for_norm=masks)
        training, validation = self.get_tr_and_val_datasets()
        balanced = balanced_probabilities(training.identifiers, self.classes.labels)
        options = (self.batch_size, size, self.label_manager, self._box, transforms)
        loader = ClassificationLoader(training, *options, sampling_probabilities=balanced)
        rounds = self._every_case(validation.identifiers)
        self.num_val_iterations_per_epoch = len(rounds.batches)
        pin_memory = self.device.type == "cuda"
        training_batches = start_augmenter(loader, get_allowed_n_proc_DA(), pin_memory=pin_memory)
        return training_batches, SingleThreadedAugmenter(rounds, None)

    def _every_case(self, cases: Sequence[str]) -> EveryCaseLoader:
        """Return rounds over some cases; where several ranks train, over this one's part of them, if there is one."""
        size, part = self.configuration_manager.patch_size, list(cases)[rank() :: world_size()]
        dataset = self.dataset_class(self.preprocessed_dataset_folder, part or list(cases))
        return EveryCaseLoader(dataset, self.batch_size, size, self.label_manager, self._box, Resize(size))

    # ---- steps -----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Start as nnU-Net does; say what its words mean here."""
        super().on_train_start()
        self.print_to_log_file(
            'NOTE: What nnU-Net calls "pseudo Dice" is the recall of each class, and its mean, the balanced accuracy.'
        )

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does, on the classes in the place of the segmentations."""
        return super().train_step(self.with_labels(batch))

    def validation_step(self, batch: dict) -> dict:
        """Return losses, labels and probabilities of the samples."""
        labels = self.labels_of(batch["keys"])
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            logits = self.decision_of(self.network(batch["data"].to(self.device, non_blocking=True))).float()
        return {
            "loss": self.losses_of(logits, labels).cpu().numpy(),
            "labels": labels.cpu().numpy(),
            "probabilities": torch.softmax(logits, 1).cpu().numpy(),
        }

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log the metrics over all validation cases; balanced accuracy and recall where nnU-Net logs Dice."""
        everywhere = [output for of_rank in gather(val_outputs) for output in of_rank]
        losses, labels, probabilities = (
            np.concatenate([output[key] for output in everywhere]) for key in ("loss", "labels", "probabilities")
        )
        metrics = classification_metrics(labels, probabilities, self.classes.names)
        epoch = self.current_epoch
        self.logger.log("mean_fg_dice", metrics.balanced_accuracy, epoch)
        self.logger.log("dice_per_class_or_region", [one["recall"] for one in metrics.classes.values()], epoch)
        self.logger.log("val_losses", losses.mean(), epoch)
        for name in LOGGED:
            self.logger.log(f"validation_{name}", getattr(metrics, name), epoch)

    def own_panels(self) -> Sequence[Panel]:
        """Add the metrics of the validation cases."""
        keys = tuple(f"validation_{name}" for name in LOGGED)
        return [*super().own_panels(), Panel("validation cases, each once", "share, area", keys, None)]

    # ---- final validation ------------------------------------------------------------------------------------------

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Classify the validation cases, and the test cases of the fold if it states some; write and log the metrics.

        Images are mirrored as in a prediction. The probabilities are written in any case.
        """
        self.network.eval()
        _, validation = self.do_split()
        metrics = self._evaluate(validation, "validation")
        for name, value in vars(metrics).items():
            if isinstance(value, float):
                self.logger.log_summary(f"final_val/{name}", value)
        test = self._test_cases()
        if test:
            self._evaluate(test, TEST_PART)

    def _test_cases(self) -> list[str]:
        """Return the third part of the fold in ``splits_final.json``; most have none."""
        file = Path(self.preprocessed_dataset_folder_base, "splits_final.json")
        splits = load_json(str(file)) if self.fold != "all" and file.is_file() else []
        return splits[self.fold].get(TEST_PART, []) if self.fold != "all" and self.fold < len(splits) else []

    def _evaluate(self, cases: Sequence[str], name: str) -> ClassificationMetrics:
        found = {case: values for of_rank in gather(self._classify(cases)) for case, values in of_rank.items()}
        probabilities = {case: found[case] for case in map(str, cases)}
        labels: Mapping[str, int] = self.classes.labels
        values = np.stack(list(probabilities.values()))
        metrics = classification_metrics([labels[case] for case in probabilities], values, self.classes.names)
        if self.local_rank == 0:
            folder = Path(self.output_folder, name)
            folder.mkdir(exist_ok=True)
            write_summary(folder / "summary.json", metrics, labels, probabilities)
        self.print_to_log_file(f"{name.capitalize()} cases of fold {self.fold}:\n{format_metrics(metrics)}")
        return metrics

    def _classify(self, cases: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the probabilities of the cases, or of this rank's part of them."""
        loader = self._every_case(cases)
        probabilities = {}
        for _ in loader.batches:
            batch = next(loader)
            data = batch["data"].to(self.device)
            found = class_probabilities(self.network, data, self.inference_allowed_mirroring_axes)
            probabilities.update(zip(map(str, batch["keys"]), found.cpu().numpy(), strict=True))
        return probabilities
