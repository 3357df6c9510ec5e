"""The plans of RL-U2Net: which stages are aligned, in which windows and by which rotations, and the branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from rl_nnunet.branches import BranchLayout, channel_indices
from rl_nnunet.errors import InputError
from rl_nnunet.networks.xalign import XAlignConfig
from rl_nnunet.plans.adapt import NetworkPlan, PlannedData
from rl_nnunet.plans.checks import PLAN_ANEW

FIRST_ALIGNED_STRIDE = 4
"""Stages are aligned from this cumulative stride on: above it, attention and turning cost more than they can give."""
WINDOW_EDGE = 4
"""Attention window, in voxels along the axis of the finest resolution; 64 voxels in 3D (the paper states no size)."""

BRANCH_DROPOUT = 0.25
"""Of unpaired data, whose branches never lack in training; on paired data, the withheld modalities do as much."""
MAX_ANISOTROPY = 2.0
"""Rotations exchange two axes of a stage if neither their spacing nor their extent in voxels differs by more. Above it,
a turned map would have to be stretched so far that no filter knows it again, and no scan is in such a pose: thick
slices are cut along one axis of the body."""


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


def turnable_axes(
    strides: Sequence[Sequence[int]], spacing: Sequence[float], patch_size: Sequence[int], stages: Sequence[int]
) -> list[list[int]]:
    """Return, per aligned stage, the axes that rotations may exchange: the most that are alike (see `MAX_ANISOTROPY`).

    Of equally many, those whose spacing is most alike, and the first of these. Parameters are those of
    `attention_windows`. An empty list leaves the half turns, which keep every axis in its place.
    """
    cumulative = np.cumprod(np.array(strides), axis=0)
    chosen = []
    for stage in stages:
        stage_spacing = np.array(spacing) * cumulative[stage]
        extent = np.ceil(np.array(patch_size) / cumulative[stage])
        candidates = [
            (-count, _anisotropy(stage_spacing, axes), axes)
            for count in range(2, len(extent) + 1)
            for axes in combinations(range(len(extent)), count)
            if max(_anisotropy(stage_spacing, axes), _anisotropy(extent, axes)) <= MAX_ANISOTROPY
        ]
        chosen.append(list(min(candidates)[2]) if candidates else [])
    return chosen


def carried_stages(
    strides: Sequence[Sequence[int]], spacing: Sequence[float], patch_size: Sequence[int], stages: Sequence[int]
) -> list[int]:
    """Return the stages that follow the pose of the first aligned one: those before it that may be turned as it is.

    Thick slices are even with the plane at a coarse stage, and not at a fine one, whose maps would be stretched.
    Parameters are those of `attention_windows`.
    """
    earlier = range(min(stages, default=0))
    axes = turnable_axes(strides, spacing, patch_size, [*stages[:1], *earlier])
    return [stage for stage, its_axes in zip(earlier, axes[1:], strict=True) if set(axes[0]) <= set(its_axes)]


def _anisotropy(values: np.ndarray, axes: Sequence[int]) -> float:
    return float(values[list(axes)].max() / values[list(axes)].min())


def branch_arguments(
    layout: BranchLayout,
    channel_blank_values: Sequence[float],
    strides: Sequence[Sequence[int]],
    spacing: Sequence[float],
    patch_size: Sequence[int],
) -> dict[str, Any]:
    """Return the arguments that `RLU2Net` has beyond those of nnU-Net's networks; JSON-serializable."""
    stages = aligned_stages(strides)
    carried = carried_stages(strides, spacing, patch_size, stages)
    return {
        "branches": [list(channels) for channels in layout.channels],
        "branch_names": list(layout.names),
        "blank_values": list(channel_blank_values),
        "aligned_stages": stages,
        "windows": attention_windows(strides, spacing, patch_size, stages),
        "turnable_axes": turnable_axes(strides, spacing, patch_size, stages),
        "carried_stages": carried if layout.pairing == "unregistered" else [],
        "branch_dropout": 0.0 if layout.is_paired else BRANCH_DROPOUT,
        "shared_decoder": not layout.is_paired,
        "branch_normalization": False,
        "xalign": asdict(XAlignConfig()),
    }


class RLU2NetPlan(NetworkPlan):
    """Plans of `rl_nnunet.networks.rl_u2net.RLU2Net`."""

    network_class = "rl_nnunet.networks.rl_u2net.RLU2Net"
    user = "RL-XAlign needs"
    planner = "RLXAlignPlanner"

    def derive(self, data: PlannedData) -> dict[str, Any]:
        """See `branch_arguments`."""
        entry = data.entry
        strides = entry["architecture"]["arch_kwargs"]["strides"]
        return branch_arguments(data.layout, data.blank_values, strides, entry["spacing"], entry["patch_size"])

    def describe(self, arguments: Mapping[str, Any], data: PlannedData) -> list[str]:
        """Name the branches, and the statistics that count zeros."""
        layout, properties = data.layout, data.plans["foreground_intensity_properties_per_channel"]
        decoders = "one decoder for all" if arguments["shared_decoder"] else "a decoder for each"
        stock_class = data.entry["architecture"]["network_class_name"].rsplit(".", 1)[-1]
        messages = [
            f"The plans are {data.plans['plans_name']}, which know no branches. Derived: a stem for each of "
            f"{', '.join(layout.names)}, one encoder (that of {stock_class}) and {decoders}, XAlign at stages "
            f"{arguments['aligned_stages']}. Patch and batch size were planned for a single branch; the network needs "
            f"about {len(layout.branches)} times the memory. RLXAlignPlanner plans for it."
        ]
        if not layout.is_paired:
            names = {i: name for name, i in channel_indices(data.dataset_json).items()}
            messages += [
                f"Channel {names[i]} is normalized with intensity statistics that count the zero-filled cases of the "
                f"other branches (0.5 % percentile {properties[str(i)]['percentile_00_5']:.4g}, mean "
                f"{properties[str(i)]['mean']:.4g}), unless rl_nnunet_plan_and_preprocess made these plans: it takes "
                "them from the cases that have the channel."
                for i, scheme in enumerate(data.entry["normalization_schemes"])
                if scheme == "CTNormalization" and len(layout.branches) > 1
            ]
        return messages

    def check_fit(self, arguments: Mapping[str, Any], data: PlannedData) -> None:
        """Check that the branches of the plans are those of the data set, in its order."""
        planned = dict(zip(arguments["branch_names"], map(tuple, arguments["branches"]), strict=False))
        found = dict(zip(data.layout.names, data.layout.channels, strict=True))
        if list(planned.items()) != list(found.items()):
            raise InputError(
                f"The branches of dataset.json are {_named(found)}, but the plans {data.plans['plans_name']} were made "
                f"for {_named(planned)}; restore dataset.json, or {PLAN_ANEW}."
            )


def _named(branches: Mapping[str, Sequence[int]]) -> str:
    return " and ".join(
        f"{name} (channel{'s' * (len(channels) != 1)} {', '.join(map(str, channels))})"
        for name, channels in branches.items()
    )
