"""What our planners share: nnU-Net's residual-encoder planner for a network of ours.

Patch and batch size are chosen for what the network really uses, because the memory estimate builds it. The plans name
the network by its dotted name and carry every architecture choice.
"""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme
from torch import nn

from rl_nnunet.branches import blank_values, layout_from_dataset_json
from rl_nnunet.files import new_file
from rl_nnunet.plans.companions import COMPANIONS, CompanionConfig
from rl_nnunet.plans.modality_shares import DEFAULT_MODALITY_DROPOUT, MODALITY_DROPOUT

SMALL_FEATURES = 8
SMALL_BLOCKS_PER_STAGE = (1, *(2,) * 12)
"""A quarter of the features and a third of the blocks: for CPUs, demonstrations and tests."""
SMALL_MEMORY_TARGET_GB = 0.25
CASCADE = "3d_cascade_fullres"


LOWEST_CT_CLIP = -1.0
"""Hounsfield units; see `tell_air_from_absence`."""


def tell_air_from_absence(intensity_properties: dict[str, dict[str, float]], dataset_json: dict[str, Any]) -> None:
    """Keep the air of a CT apart from an absent CT, by a plan value that nnU-Net's own normalization keeps.

    CTNormalization clips at the 0.5 % percentile of the foreground. Where that is at 0 HU or above, as of an organ full
    of contrast agent, air and the zeros of an absent CT become the same value, and a patch of air looks like no CT at
    all. Clipping just below 0 HU keeps them apart. The properties are changed.
    """
    for channel, name in dataset_json.get("channel_names", dataset_json.get("modality")).items():
        properties = intensity_properties[channel]
        if get_normalization_scheme(name) is CTNormalization and properties["percentile_00_5"] > LOWEST_CT_CLIP:
            properties["percentile_00_5"] = LOWEST_CT_CLIP


class AgentNetworkPlanner(ResEncUNetPlanner):
    """Plan a network of ours around nnU-Net's residual encoder.

    Parameters are those of nnU-Net's planners; their defaults are class attributes.

    Attributes
    ----------
    network_class : type
        The network; nnU-Net asks it for its ``compute_conv_feature_map_size``.
    default_plans_name : str
        Name of the plans.
    default_memory_target_gb : float
        GPU memory to plan for, in GB.
    is_small : bool
        Whether to plan for a CPU.
    """

    network_class: type[nn.Module]
    default_plans_name: str
    default_memory_target_gb = 8.0
    is_small = False

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float | None = None,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ) -> None:
        super().__init__(
            dataset_name_or_id,
            self.default_memory_target_gb if gpu_memory_target_in_gb is None else gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name or self.default_plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.UNet_class = self.network_class
        self.layout = layout_from_dataset_json(self.dataset_json)
        tell_air_from_absence(
            self.dataset_fingerprint["foreground_intensity_properties_per_channel"], self.dataset_json
        )
        if self.is_small:
            self.UNet_base_num_features = SMALL_FEATURES
            self.UNet_blocks_per_stage_encoder = SMALL_BLOCKS_PER_STAGE

    @abstractmethod
    def network_arguments(
        self,
        arch_kwargs: dict[str, Any],
        channel_blank_values: Sequence[float],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> dict[str, Any]:
        """Return the arguments of the network, given those of nnU-Net's; JSON-serializable."""

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Keep our preprocessed data apart from stock data, which are normalized with other statistics."""
        return ExperimentPlanner.generate_data_identifier(self, configuration_name)

    def static_estimate_VRAM_usage(
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> np.int64:
        """Estimate memory as nnU-Net does, for the network of ours."""
        return super().static_estimate_VRAM_usage(
            patch_size,
            input_channels,
            output_channels,
            arch_class_name,
            self.network_arguments(arch_kwargs, [0.0] * input_channels, [1.0] * len(patch_size), patch_size),
            arch_kwargs_req_import,
        )

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        """Plan as nnU-Net does and add our arguments; an unpaired sample covers one patch per branch of the data."""
        patches_per_sample = 1 if self.layout.is_paired else len(self.layout.branches)
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset / patches_per_sample, _cache
        )
        architecture = plan["architecture"]
        architecture["arch_kwargs"] = self.network_arguments(
            architecture["arch_kwargs"],
            blank_values(
                plan["normalization_schemes"], self.dataset_fingerprint["foreground_intensity_properties_per_channel"]
            ),
            [float(i) for i in spacing],
            plan["patch_size"],
        )
        plan[MODALITY_DROPOUT] = DEFAULT_MODALITY_DROPOUT
        if self.layout.pairing == "unregistered":
            plan[COMPANIONS] = dataclasses.asdict(CompanionConfig())
        return plan

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Save as nnU-Net does, without the cascade: the previous stage's segmentation belongs to no branch.

        nnU-Net takes over what it finds in an older file of this name, so that the cascade is removed from there, too.
        """
        file = Path(nnUNet_preprocessed) / self.dataset_name / f"{self.plans_identifier}.json"
        if file.is_file():
            older = json.loads(file.read_text())
            if older["configurations"].pop(CASCADE, None) is not None:
                with new_file(file) as unfinished:
                    unfinished.write_text(json.dumps(older, indent=4))
        plans["configurations"].pop(CASCADE, None)
        for configuration in plans["configurations"].values():
            configuration.pop("next_stage", None)
        super().save_plans(plans)
