"""nnU-Net's residual-encoder planner for the dual-branch network: ``RLXAlignPlanner``.

The memory estimate counts every branch's stem, encoder pass and decoder, the attention and the rotated maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.planners.agent_network_planner import SMALL_MEMORY_TARGET_GB, AgentNetworkPlanner
from rl_nnunet.plans.rl_u2net import branch_arguments


class RLXAlignPlanner(AgentNetworkPlanner):
    """Plan RL-U2Net around nnU-Net's residual encoder."""

    network_class = RLU2Net
    default_plans_name = "RLXAlignPlans"

    def network_arguments(
        self,
        arch_kwargs: dict[str, Any],
        channel_blank_values: Sequence[float],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> dict[str, Any]:
        """Add the branches."""
        branches = branch_arguments(self.layout, channel_blank_values, arch_kwargs["strides"], spacing, patch_size)
        return {**arch_kwargs, **branches}


class RLXAlignSmallPlanner(RLXAlignPlanner):
    """A quarter of the features and a third of the blocks: for CPUs, demonstrations and tests."""

    default_plans_name = "RLXAlignSmallPlans"
    default_memory_target_gb = SMALL_MEMORY_TARGET_GB
    is_small = True
