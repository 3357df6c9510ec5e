"""From nnU-Net's plans to the architecture of RL-U2Net: what a plan states, and what is derived where it does not.

`rl_nnunet.planners` writes plans that state everything. Stock plans (nnU-Net's default planner, ResEnc M and L) know
nothing of branches; `with_branches` rewrites the trained configuration of such plans, so that the model folder's plans
are again all that prediction needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from rl_nnunet.branches import BranchLayout, blank_values, channel_indices
from rl_nnunet.consistency import check_blank_values, check_branches, check_data_set, configuration_entry
from rl_nnunet.errors import InputError
from rl_nnunet.networks.arguments import check_arguments

NETWORK_CLASS = "rl_nnunet.networks.rl_u2net.RLU2Net"
STOCK_CLASSES = (
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
)
FIRST_ALIGNED_STRIDE = 4
"""Stages are aligned from this cumulative stride on: above it, attention and turning cost more than they can give."""
WINDOW_EDGE = 4
"""Attention window, in voxels along the axis of the finest resolution; 64 voxels in 3D (the paper states no size)."""


def aligned_stages(strides: Sequence[Sequence[int]]) -> list[int]:
    """Return the stages that get an XAlign module: those with a cumulative stride of at least 4 along some axis."""
    cumulative = np.cumprod(np.array(strides), axis=0)
    return [stage for stage, stride in enumerate(cumulative) if stride.max() >= FIRST_ALIGNED_STRIDE]


def attention_windows(
    strides: Sequence[Sequence[int]], spacing: Sequence[float], patch_size: Sequence[int], stages: Sequence[int]
) -> list[list[int]]:
    """Return the attention window per aligned stage: a cube in millimeters, as far as voxels allow.

    Parameters
    ----------
    strides : sequence
        Strides of all stages.
    spacing : sequence of float
        Target spacing of the configuration in mm.
    patch_size : sequence of int
        Patch size in voxels; no window is larger than the feature map.
    stages : sequence of int
        The aligned stages.
    """
    cumulative = np.cumprod(np.array(strides), axis=0)
    windows = []
    for stage in stages:
        stage_spacing = np.array(spacing) * cumulative[stage]
        edge = np.round(WINDOW_EDGE * stage_spacing.min() / stage_spacing)
        size = np.ceil(np.array(patch_size) / cumulative[stage])
        windows.append([int(i) for i in np.clip(edge, 1, np.minimum(size, WINDOW_EDGE))])
    return windows


def branch_arguments(
    layout: BranchLayout,
    channel_blank_values: Sequence[float],
    strides: Sequence[Sequence[int]],
    spacing: Sequence[float],
    patch_size: Sequence[int],
) -> dict[str, Any]:
    """Return the arguments that `RLU2Net` has beyond those of nnU-Net's networks; JSON-serializable."""
    stages = aligned_stages(strides)
    return {
        "branches": [list(channels) for channels in layout.channels],
        "branch_names": list(layout.names),
        "blank_values": list(channel_blank_values),
        "aligned_stages": stages,
        "windows": attention_windows(strides, spacing, patch_size, stages),
        "branch_dropout": 0.25,
        "channel_dropout": 0.25,
        "xalign": {
            "selected_rotations": 1,
            "fusion": "gated",
            "fusion_weight": 0.3,
            "initial_gate": 0.05,
            "policy": "contextual",
            "cross_modal_attention": True,
        },
    }


def with_branches(
    plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any], overrides: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return plans whose `configuration` builds `RLU2Net`, and sentences that say what was derived.

    Parameters
    ----------
    plans : dict
        nnU-Net's plans; not changed.
    configuration : str
        The configuration to train.
    dataset_json : dict
        The data set's description, where stock plans have to take the branches from.
    overrides : dict
        Architecture arguments that a trainer (an ablation) sets; ``xalign`` is merged field by field.

    Raises
    ------
    InputError
        If the configuration is a cascade, its network is none that we can give branches, or plans and data set do not
        fit each other.
    """
    plans = deepcopy(plans)
    entry = configuration_entry(plans, configuration)
    layout = check_data_set(plans, entry, dataset_json)
    architecture, messages = entry["architecture"], []
    if architecture["network_class_name"] in STOCK_CLASSES:
        messages = _add_branches(plans, entry, layout, dataset_json)
    elif architecture["network_class_name"] != NETWORK_CLASS:
        raise InputError(
            f"The plans build {architecture['network_class_name']}; RL-XAlign needs plans of RLXAlignPlanner, of "
            "nnU-Net's default planner, or of its ResEnc planners."
        )
    arguments = architecture["arch_kwargs"]
    check_arguments(plans["plans_name"], NETWORK_CLASS, arguments, len(entry["normalization_schemes"]))
    check_branches(plans["plans_name"], arguments, layout)
    check_blank_values(plans, entry)
    for name, value in overrides.items():
        arguments[name] = {**arguments.get(name, {}), **value} if isinstance(value, dict) else value
    return plans, messages


def _add_branches(
    plans: dict[str, Any], entry: dict[str, Any], layout: BranchLayout, dataset_json: dict[str, Any]
) -> list[str]:
    properties = plans["foreground_intensity_properties_per_channel"]
    schemes = entry["normalization_schemes"]
    architecture = entry["architecture"]
    stock_class = architecture["network_class_name"].rsplit(".", 1)[-1]
    arguments = branch_arguments(
        layout,
        blank_values(schemes, properties),
        architecture["arch_kwargs"]["strides"],
        entry["spacing"],
        entry["patch_size"],
    )
    architecture["network_class_name"] = NETWORK_CLASS
    architecture["arch_kwargs"].update(arguments)
    messages = [
        f"The plans are {plans['plans_name']}, which know no branches. Derived: a stem and a decoder for each of "
        f"{', '.join(layout.names)} around one shared encoder (that of {stock_class}), XAlign at stages "
        f"{arguments['aligned_stages']}. Patch and batch size were planned for a single branch; the network needs "
        f"about {len(layout.branches)} times the memory. RLXAlignPlanner plans for it."
    ]
    if layout.pairing == "unpaired":
        names = {i: name for name, i in channel_indices(dataset_json).items()}
        messages += [
            f"Channel {names[i]} is normalized with intensity statistics that count the zero-filled cases of the "
            f"other branches (0.5 % percentile {properties[str(i)]['percentile_00_5']:.4g}, mean "
            f"{properties[str(i)]['mean']:.4g}), unless rl_nnunet_plan_and_preprocess made these plans: it takes them "
            "from the cases that have the channel."
            for i, scheme in enumerate(schemes)
            if scheme == "CTNormalization" and len(layout.branches) > 1
        ]
    return messages
