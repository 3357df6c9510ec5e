"""RL-U2Net with the paper's shared encoder, a Swin transformer: ``RLXAlignSwinPlanner``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_nnunet.planners.rl_xalign_planner import RLXAlignPlanner
from rl_nnunet.plans.rl_u2net import attention_windows

BLOCKS_PER_STAGE = 2
"""One block with windows and one with shifted windows, as in every stage of SwinUNETR."""
HEAD_CHANNELS = 32


def with_swin_encoder(
    arch_kwargs: dict[str, Any], spacing: Sequence[float], patch_size: Sequence[int]
) -> dict[str, Any]:
    """Return architecture arguments whose encoder is a Swin transformer instead of nnU-Net's; JSON-serializable.

    Parameters
    ----------
    arch_kwargs : dict
        Arguments of `RLU2Net` with ``n_blocks_per_stage``; not changed.
    spacing : sequence of float
        Target spacing of the configuration in mm.
    patch_size : sequence of int
        Patch size in voxels.
    """
    stages = range(1, arch_kwargs["n_stages"])
    others = {name: value for name, value in arch_kwargs.items() if name != "n_blocks_per_stage"}
    return {
        **others,
        "swin_blocks_per_stage": [1, *(BLOCKS_PER_STAGE for _ in stages)],
        "swin_windows": attention_windows(arch_kwargs["strides"], spacing, patch_size, stages),
        "swin_head_channels": HEAD_CHANNELS,
    }


class RLXAlignSwinPlanner(RLXAlignPlanner):
    """Plan RL-U2Net around a Swin transformer of nnU-Net's topology. Parameters are those of nnU-Net's planners."""

    default_plans_name = "RLXAlignSwinPlans"

    def network_arguments(
        self,
        arch_kwargs: dict[str, Any],
        channel_blank_values: Sequence[float],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> dict[str, Any]:
        """Add the branches and exchange the encoder."""
        arguments = super().network_arguments(arch_kwargs, channel_blank_values, spacing, patch_size)
        return with_swin_encoder(arguments, spacing, patch_size)
