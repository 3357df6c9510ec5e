"""Finer stages of RL-XAlign, which follow the pose of the first aligned one.

The paper has a policy and an attention at every stage it aligns. At fine stages they cost more than they give, yet what
a companion shows in detail gets through there: aligned from a stride of 4 on, noisy hearts had 0.85 where their
companions had 0.96, with the finer stages 0.94 (docs/benchmarks.md). And one pose holds for all maps of a patch. Hence
a stage may be *carried*: the auxiliary map itself is turned by the rotations that were drawn at the first aligned
stage, and fused as everywhere.

A carried stage hands its maps to the decoder alone, whatever `XAlignConfig.feeds` says: when the rotation is drawn, the
encoder has passed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_nnunet.networks.xalign import (
    Links,
    ResidualFusion,
    XAlignConfig,
    fuse_rows,
    mean_over_auxiliaries,
    turn_by,
)
from rl_nnunet.policies.rotations import rotation_matrices

KERNEL_EDGE = 1
"""Of the fusion's second convolution: at full resolution, a larger one costs as much as a stage of the encoder."""


class CarriedPose(nn.Module):
    """The module of one carried stage.

    Parameters
    ----------
    channels : int
        Channels of the stage.
    dimension : int
        2 or 3.
    exchanged : sequence of int
        Axes that the rotations may exchange: those of the first aligned stage.
    config, block_options
        See `rl_nnunet.networks.xalign.ResidualFusion`.
    """

    def __init__(
        self,
        channels: int,
        dimension: int,
        exchanged: Sequence[int],
        config: XAlignConfig,
        block_options: dict[str, Any],
    ) -> None:
        super().__init__()
        matrices = torch.tensor(rotation_matrices(dimension), dtype=torch.float32)
        self.register_buffer("rotation_matrices", matrices, persistent=False)
        self.exchanged = tuple(exchanged)
        self.fusion = ResidualFusion(channels, config, block_options, [KERNEL_EDGE] * dimension)

    def forward(self, features: Tensor, links: Links, rotations: Tensor | None) -> Tensor:
        """Turn the auxiliary maps and fuse; a scan without a companion is its own, as in `XAlign`.

        Parameters
        ----------
        features : Tensor
            Feature maps of all present (sample, branch) pairs, (rows, C, *spatial).
        links : Links
            Which row looks at which.
        rotations : Tensor or None
            What was drawn for each link, integers (L, K_sel); None without links.

        Returns
        -------
        Tensor
            The fused maps, same shape.
        """
        companions = []
        if rotations is not None:
            auxiliary = features[links.auxiliary]
            aligned = turn_by(auxiliary, rotations, self.rotation_matrices, self.exchanged)
            companions.append(mean_over_auxiliaries(aligned, links))
        if len(links.lone):
            companions.append(features[links.lone])
        return fuse_rows(self.fusion, features, links, companions)
