"""How large the encoders of the modalities are: so that a training step costs little more than one of stock nnU-Net.

M encoders as large as nnU-Net's one take M times as long, most of it at the resolution of the image. The goal is a step
of at most 1.5 times stock's. With three modalities, a step was measured at 1.2 in a network of nnU-Net's usual 32
features, and at 1.6 in one of 8, whose layers are so small that their number counts (docs/benchmarks.md).
"""

from __future__ import annotations

import pydoc
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rl_nnunet.networks.backbone import ENCODERS, Backbone

MAX_COST = 1.9
"""Values in the feature maps of a step, in units of those of the network with one encoder for all. A step takes less
than that many times as long: part of the modalities are withheld, and concatenations cost less than convolutions."""


def modality_encoder(arch_kwargs: Mapping[str, Any], modalities: int, patch_size: Sequence[int]) -> dict[str, Any]:
    """Return the fields of `Backbone` in which the modalities' encoders differ from the planned one.

    The first of these that does not cost too much, or the last: as planned; with one block (or convolution) per stage;
    that with half of the features at full resolution; that with half of the features everywhere. A transformer is left
    as it is.

    Parameters
    ----------
    arch_kwargs : mapping
        nnU-Net's arguments of the network; classes may be dotted names.
    modalities : int
        M.
    patch_size : sequence of int
        In voxels.
    """
    fields = {name: value for name, value in arch_kwargs.items() if name in Backbone.__dataclass_fields__}
    plan = {name: pydoc.locate(value) if isinstance(value, str) else value for name, value in fields.items()}
    depth = next((name for name in ENCODERS[:2] if plan.get(name) is not None), None)
    if depth is None:
        return {}
    features = list(plan["features_per_stage"])
    shallow = {depth: [1] * len(features)}
    choices: list[dict[str, Any]] = [
        {},
        shallow,
        {**shallow, "features_per_stage": [max(1, features[0] // 2), *features[1:]]},
        {**shallow, "features_per_stage": [max(1, size // 2) for size in features]},
    ]
    stock = _maps(plan, plan, 1, patch_size)
    affordable = (c for c in choices if _maps(plan, {**plan, **c}, modalities, patch_size) <= MAX_COST * stock)
    return next(affordable, choices[-1])


def _maps(plan: Mapping[str, Any], encoder_plan: Mapping[str, Any], encoders: int, patch_size: Sequence[int]) -> float:
    """Return the number of values in the feature maps of stems, encoders, concatenations and decoder."""
    patch = list(patch_size)
    with torch.device("meta"):
        one = Backbone(**encoder_plan)
        encoder = one.build_encoder().compute_conv_feature_map_size(patch)
        stem = one.build_stem(1).compute_conv_feature_map_size(patch)
        decoder = Backbone(**plan).build_decoder(1, deep_supervision=False).compute_conv_feature_map_size(patch)
    concatenated, size = 0, torch.tensor(patch)
    for features, stride in zip(one.features_per_stage, one.strides, strict=True):
        size = size // torch.tensor(stride)
        concatenated += encoders * features * int(size.prod()) if encoders > 1 else 0
    return float(encoders * (encoder + stem) + concatenated + decoder)
