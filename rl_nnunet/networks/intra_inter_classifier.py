"""The paper's classifier with the intra- and the inter-modality agent: one encoder per modality, refined T times.

Zhu et al. (see `rl_nnunet.networks.iterated_net`), section 2 and figure 1::

    x_m - stem_m - (x W_s) - encoder_m - mean - f_m -+- FC_m ---------------------------- O_m
                                                     +- (x W_f,m) - concat - FC - FC ---- O_fusion

The f_m have 8c features where the maps behind the stems have c channels. The prediction is the sum of all outputs of
the last iteration, ``O_fusion + sum W_f,m O_m``; without an inter agent, whose weights are 1, that is the paper's plain
sum. Why W_f,m weighs the outputs, too, see `rl_nnunet.networks.intra_inter_net`.

Where we differ, or the paper is silent:

- What the agents see is what `rl_nnunet.networks.observer` describes, and not f_m and the fused features.
- The paper names neither the layer between the two FC of the fusion nor a normalization: a leaky ReLU,
  `rl_nnunet.networks.sample_norm`.
- A modality that a sample does not have gets no encoder; its part of the concatenation is zero.
- One modality has nothing to weigh it against: its network has the intra agent alone, as in the paper's experiment on
  nodules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_nnunet.networks.backbone import Backbone
from rl_nnunet.networks.iterated_net import AGENTS, IteratedNet, Iterations, Scene
from rl_nnunet.networks.observer import Observer, output_statistics
from rl_nnunet.networks.rows import place
from rl_nnunet.outputs import IterationOutput


class IntraInterClassifier(IteratedNet):
    """One encoder per modality, whose features two agents weigh; every input channel is a modality.

    Parameters
    ----------
    input_channels, num_classes, deep_supervision
        Given by nnU-Net. Its classes are those of a segmentation, and not used.
    class_names : sequence of str
        Names of the classes; one logit each.
    modality_names, blank_values, fused_output_weight
        See `rl_nnunet.networks.iterated_net.IteratedNet`; the last weighs losses only.
    agents, iterations, hidden_size, exploration_share, learning, trained_iterations, prediction_iterations
        See `rl_nnunet.networks.iterated_net.Iterations`.
    **backbone
        Fields of `rl_nnunet.networks.backbone.Backbone`.

    Raises
    ------
    ValueError
        If the choices do not fit each other, or the backbone cannot be built.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        class_names: Sequence[str],
        modality_names: Sequence[str],
        blank_values: Sequence[float],
        agents: Sequence[str] = AGENTS,
        iterations: int = 3,
        hidden_size: int = 64,
        fused_output_weight: float = 4.0,
        exploration_share: float = 0.5,
        learning: str = "reinforcement",
        trained_iterations: str = "all",
        prediction_iterations: int | None = None,
        **backbone: Any,
    ) -> None:
        plan = Backbone(**backbone)
        loop = Iterations(
            agents, iterations, hidden_size, exploration_share, learning, trained_iterations, prediction_iterations
        )
        if loop.selects:
            raise ValueError("no agent selects the modalities of a classifier; agents are of intra and inter")
        super().__init__(modality_names, blank_values, fused_output_weight, loop, plan)
        channels, features, classes = plan.features_per_stage[0], plan.features_per_stage[-1], len(class_names)
        self.heads = nn.ModuleList(nn.Linear(features, classes) for _ in self.groups)
        self.fusion = nn.Sequential(nn.Linear(len(self.groups) * features, features), nn.LeakyReLU())
        self.classifier = nn.Linear(features, classes)
        self._add_policies(loop, Observer(len(self.groups), channels, regions=False), channels)

    def _iterate(self, scene: Scene, weights: dict[str, Tensor], decide: bool) -> tuple[IterationOutput, Tensor | None]:
        """Run one iteration; the output costs little beside the encoders, and is there whether asked for or not."""
        samples, size = scene.samples, len(scene.present)
        inter = weights["inter"] * scene.present
        features = [
            None if maps is None else maps[-1].flatten(2).mean(2) for maps in self._encode(scene, weights["intra"])
        ]
        own = [None if one is None else head(one) for head, one in zip(self.heads, features, strict=True)]
        statistics = None
        if self.policies:
            # One "voxel": every class counts for the agreement, as none is a background.
            voxels = [None if logits is None else logits[..., None] for logits in own]
            statistics = output_statistics(voxels, inter, samples, scene.present, regions=False, background=False)
        fused = self.classifier(self.fusion(torch.cat(self._weigh(features, inter, samples, size), 1)))
        weighed = self._weigh(own, inter, samples, size)
        return IterationOutput(fused, own, fused + torch.stack(weighed).sum(0)), statistics

    def _weigh(
        self, values: Sequence[Tensor | None], inter: Tensor, samples: Sequence[Sequence[int]], size: int
    ) -> list[Tensor]:
        """Return each modality's values times its weight (eq. 1), (B, entries); 0 where a sample does not have it."""
        example = next(one for one in values if one is not None)
        absent = example.new_zeros(size, example.shape[1])
        return [
            absent if one is None else place(one, rows, size) * inter[:, m, None].to(one.dtype)
            for m, (one, rows) in enumerate(zip(values, samples, strict=True))
        ]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Return the number of feature-map values of one sample with all modalities, in one iteration."""
        stems = sum(stem.compute_conv_feature_map_size(list(input_size)) for stem in self.stems)
        return stems + sum(encoder.compute_conv_feature_map_size(list(input_size)) for encoder in self.encoders)
