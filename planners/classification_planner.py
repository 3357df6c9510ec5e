"""Plans for classification: ``ClassificationPlanner``.

nnU-Net's planner decides on spacing, resampling and normalization. What the networks see is a cube of one size for all
cases, into which a crop of each is resized (Zhu et al., section 3.1: 64 voxels, batches of 10), so that nothing about
patch and batch depends on the memory. The table of classes is copied to where training finds it, and folds are made in
which every part has every class.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from rl_nnunet.case_table import CASE_TABLE, read_case_table
from rl_nnunet.class_folds import possible_folds
from rl_nnunet.class_table import CLASS_TABLE, read_classes
from rl_nnunet.errors import InputError
from rl_nnunet.files import new_file
from rl_nnunet.networks.classification_net import ClassificationNet
from rl_nnunet.planners.agent_network_planner import AgentNetworkPlanner
from rl_nnunet.planners.splits import SPLITS_FILE
from rl_nnunet.plans.classification import CLASSIFICATION, classifier_arguments, default_crop

FOLDS = 5
"""nnU-Net's."""


class ClassificationPlanner(AgentNetworkPlanner):
    """Plan a classifier. Parameters are those of nnU-Net's planners; the memory target has no influence.

    2D data get the configuration ``2d``, all other data ``3d_fullres``.

    Attributes
    ----------
    edge : int
        Of the cube (in 2D, the square), in voxels.
    batch_size : int
        Samples in a batch.
    base_features : int
        Features of the encoder's first stage.

    Raises
    ------
    InputError
        If the table of classes cannot be used, or the data set is unpaired.
    """

    network_class = ClassificationNet
    default_plans_name = "ClassificationPlans"
    edge = 64
    batch_size = 10
    base_features = 32

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.layout.is_paired:
            raise InputError(
                f"{type(self).__name__}: {self.dataset_name} is {self.layout.pairing}, but a classifier sees all "
                "channels of a case together; convert it as paired, or each branch by itself."
            )
        self.crop = default_crop(self.dataset_json)
        self.classes = read_classes(self._raw, self.dataset_json, list(self.dataset))
        # A whole crop is seen at once: no second configuration of a lower resolution.
        self.lowres_creation_threshold = 0

    @property
    def _raw(self) -> Path:
        return Path(nnUNet_raw) / self.dataset_name

    @property
    def _preprocessed(self) -> Path:
        return Path(nnUNet_preprocessed) / self.dataset_name

    def network_arguments(
        self,
        arch_kwargs: dict[str, Any],
        channel_blank_values: Sequence[float],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> dict[str, Any]:
        """Return those of the cube's encoder; nnU-Net's are for a patch."""
        return {
            **classifier_arguments(len(patch_size), self.edge, self.base_features),
            "class_names": list(self.classes.names),
            "blank_values": list(channel_blank_values),
        }

    def static_estimate_VRAM_usage(self, *_: Any, **__: Any) -> int:
        """Return that any patch fits, so that nnU-Net does not look for one: the cube takes its place."""
        return 1

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        """Plan as nnU-Net does, with the cube in the place of the patch."""
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        plan["patch_size"] = [self.edge] * len(spacing)
        plan["batch_size"] = self.batch_size
        plan[CLASSIFICATION] = dataclasses.asdict(self.crop)
        return plan

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Save as nnU-Net does, without slices of 3D data; beside them, the table of classes and, if none, folds."""
        if "3d_fullres" in plans["configurations"]:
            del plans["configurations"]["2d"]
        super().save_plans(plans)
        with new_file(self._preprocessed / CLASS_TABLE) as unfinished:
            shutil.copyfile(self._raw / CLASS_TABLE, unfinished)
        splits = self._preprocessed / SPLITS_FILE
        if not splits.exists():
            self._write_splits(splits)

    def _write_splits(self, file: Path) -> None:
        table = self._raw / CASE_TABLE
        patients = {row.case: row.patient for row in read_case_table(table)} if table.exists() else {}
        splits, notices = possible_folds(self.classes.labels, self.classes.names, FOLDS, patients)
        for notice in notices:
            print(f"Notice: {notice}")
        if not splits:
            return
        with new_file(file) as unfinished:
            unfinished.write_text(json.dumps(splits, indent=4), encoding="utf-8")


class ClassificationSmallPlanner(ClassificationPlanner):
    """A cube of half the edge and a quarter of the features: for CPUs, demonstrations and tests."""

    default_plans_name = "ClassificationSmallPlans"
    edge = 32
    base_features = 8
