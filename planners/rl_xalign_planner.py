"""nnU-Net's residual-encoder planner for the dual-branch network: ``RLXAlignPlanner``.

Patch and batch size are chosen for what the network really uses: the memory estimate counts every branch's stem,
encoder pass and decoder, the attention and the rotated maps. The plans name the network by its dotted name and carry
every architecture choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner

from rl_nnunet.branches import blank_values, layout_from_dataset_json
from rl_nnunet.networks.architecture import branch_arguments
from rl_nnunet.networks.rl_u2net import RLU2Net


class RLXAlignPlanner(ResEncUNetPlanner):
    """Plan RL-U2Net around nnU-Net's residual encoder.

    Parameters are those of nnU-Net's planners; their defaults are class attributes.

    Attributes
    ----------
    default_plans_name : str
        Name of the plans.
    default_memory_target_gb : float
        GPU memory to plan for, in GB.
    """

    default_plans_name = "RLXAlignPlans"
    default_memory_target_gb = 8.0

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
        self.UNet_class = RLU2Net
        self.layout = layout_from_dataset_json(self.dataset_json)

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
        """Estimate memory as nnU-Net does, for the network with its branches."""
        branch_kwargs = branch_arguments(
            self.layout, [0.0] * input_channels, arch_kwargs["strides"], [1.0] * len(patch_size), patch_size
        )
        return super().static_estimate_VRAM_usage(
            patch_size,
            input_channels,
            output_channels,
            arch_class_name,
            {**arch_kwargs, **branch_kwargs},
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
        """Plan as nnU-Net does and add the branches; an unpaired sample covers one patch per branch of the data."""
        patches_per_sample = len(self.layout.branches) if self.layout.pairing == "unpaired" else 1
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset / patches_per_sample, _cache
        )
        properties = self.dataset_fingerprint["foreground_intensity_properties_per_channel"]
        arguments = plan["architecture"]["arch_kwargs"]
        arguments.update(
            branch_arguments(
                self.layout,
                blank_values(plan["normalization_schemes"], properties),
                arguments["strides"],
                [float(i) for i in spacing],
                plan["patch_size"],
            )
        )
        return plan


class RLXAlignSmallPlanner(RLXAlignPlanner):
    """A quarter of the features and a third of the blocks: for CPUs, demonstrations and tests."""

    default_plans_name = "RLXAlignSmallPlans"
    default_memory_target_gb = 0.25

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.UNet_base_num_features = 8
        self.UNet_blocks_per_stage_encoder = (1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
