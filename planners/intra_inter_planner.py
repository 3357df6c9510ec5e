"""nnU-Net's residual-encoder planner for the intra- and inter-modality agents' network: ``IntraInterPlanner``.

The memory estimate counts the encoders of all modalities and one iteration: the others keep no maps (see
`rl_nnunet.networks.intra_inter_net`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_nnunet.errors import InputError
from rl_nnunet.networks.intra_inter_net import IntraInterNet
from rl_nnunet.planners.agent_network_planner import SMALL_MEMORY_TARGET_GB, AgentNetworkPlanner
from rl_nnunet.plans.intra_inter_net import modality_arguments


class IntraInterPlanner(AgentNetworkPlanner):
    """Plan one encoder per modality around nnU-Net's residual encoder.

    Raises
    ------
    InputError
        If the data set is unpaired: the modalities are fused voxel by voxel.
    """

    network_class = IntraInterNet
    default_plans_name = "IntraInterPlans"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.layout.is_paired:
            raise InputError(
                f"{type(self).__name__}: {self.dataset_name} is {self.layout.pairing}, but the modalities of a case "
                "are fused voxel by voxel; use RLXAlignPlanner."
            )

    def network_arguments(
        self,
        arch_kwargs: dict[str, Any],
        channel_blank_values: Sequence[float],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> dict[str, Any]:
        """Add the modalities and agents."""
        modalities = modality_arguments(self.dataset_json, channel_blank_values, arch_kwargs, patch_size)
        return {**arch_kwargs, **modalities}


class IntraInterSmallPlanner(IntraInterPlanner):
    """A quarter of the features and a third of the blocks: for CPUs, demonstrations and tests."""

    default_plans_name = "IntraInterSmallPlans"
    default_memory_target_gb = SMALL_MEMORY_TARGET_GB
    is_small = True
