"""A classifier with one encoder for all channels (early fusion): the baseline that any other has to beat.

nnU-Net's residual encoder on all channels together, global average pooling, a linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_nnunet.networks.backbone import Backbone, initialize_as_nnunet
from rl_nnunet.presence.patches import tell_present


class ClassificationNet(nn.Module):
    """One encoder, whose input is blank where a channel is absent.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        Given by nnU-Net. Its classes are those of a segmentation, and not used.
    class_names : sequence of str
        Names of the classes; one logit each.
    blank_values : sequence of float
        Value of each input channel where it is absent (`rl_nnunet.branches.blank_values`).
    **backbone
        Fields of `rl_nnunet.networks.backbone.Backbone`.

    Raises
    ------
    ValueError
        If the backbone cannot be built.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        class_names: Sequence[str],
        blank_values: Sequence[float],
        **backbone: Any,
    ) -> None:
        super().__init__()
        plan = Backbone(**backbone)
        self.groups = [[channel] for channel in range(input_channels)]
        self.register_buffer("blank_values", torch.tensor(blank_values, dtype=torch.float32), persistent=False)
        self.stem = plan.build_stem(input_channels)
        self.encoder = plan.build_encoder()
        self.head = nn.Linear(plan.features_per_stage[-1], len(class_names))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialize as nnU-Net does; nnU-Net applies this to every module."""
        initialize_as_nnunet(module)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of (B, channels, *spatial)."""
        x, present = tell_present(x, self.groups, self.blank_values)
        x = x * present.view(*present.shape, *[1] * (x.ndim - 2))
        return self.head(self.encoder(self.stem(x))[-1].flatten(2).mean(2))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample; nnU-Net plans memory with it."""
        return self.stem.compute_conv_feature_map_size(input_size) + self.encoder.compute_conv_feature_map_size(
            input_size
        )
