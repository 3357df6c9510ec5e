"""What a training needs, as far as the plans tell: memory and time per epoch, both from counted feature maps.

nnU-Net's planners choose the patch by the number of values in all feature maps of a step, on a scale on which the maps
of a reference network stand for 8 GB. The same scale, read backwards, gives the memory of a plan. Time grows with the
maps, too: it is put in relation to nnU-Net's ResEnc M, which fills the budget of 8 GB, and for which its authors state
12 hours for 1000 epochs on an A100 (PCIe, 40 GB). Neither counts the updates of the agents or the data loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

RESENC_M_SECONDS_PER_EPOCH = 12 * 3600 / 1000
"""https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/resenc_presets.md"""


@dataclass(frozen=True)
class TrainingCost:
    """Estimates for one configuration.

    Parameters
    ----------
    memory_gb : float
        GPU memory in GB, on the scale of ``-gpu_memory_target``.
    seconds_per_epoch : float
        Of nnU-Net's 250 iterations, on an A100.
    """

    memory_gb: float
    seconds_per_epoch: float


def estimate_cost(
    planner: ExperimentPlanner, plans: PlansManager, configuration: str, num_outputs: int
) -> TrainingCost:
    """Estimate what a training of a configuration needs.

    Parameters
    ----------
    planner : ExperimentPlanner
        What made the plans; it knows its scale.
    plans : PlansManager
        The plans.
    configuration : str
        One of them.
    num_outputs : int
        Output channels of the network.
    """
    from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plan = plans.get_configuration(configuration)
    network = get_network_from_plans(
        plan.network_arch_class_name,
        plan.network_arch_init_kwargs,
        plan.network_arch_init_kwargs_req_import,
        len(plan.normalization_schemes),
        num_outputs,
        allow_init=False,
    )
    maps = float(network.compute_conv_feature_map_size(plan.patch_size)) * plan.batch_size
    resenc_m = ResEncUNetPlanner(planner.dataset_name)
    dimensions = len(plan.patch_size)
    return TrainingCost(
        maps / _reference_maps(planner, dimensions) * planner.UNet_reference_val_corresp_GB,
        maps / _reference_maps(resenc_m, dimensions) * RESENC_M_SECONDS_PER_EPOCH,
    )


def _reference_maps(planner: ExperimentPlanner, dimensions: int) -> float:
    """Return the number of values in the maps of a step that the planner takes for its reference memory."""
    if dimensions == 2:
        return planner.UNet_reference_val_2d * planner.UNet_reference_val_corresp_bs_2d
    return planner.UNet_reference_val_3d * planner.UNet_reference_val_corresp_bs_3d
