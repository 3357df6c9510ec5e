"""From plans to the arguments of the network: stock plans, ours, and what neither can be."""

import json
from copy import deepcopy

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from stock_plans import stock_plans

from rl_nnunet.errors import InputError
from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.plans.adapt import adapt
from rl_nnunet.plans.rl_u2net import (
    RLU2NetPlan,
    aligned_stages,
    attention_windows,
    carried_stages,
    turnable_axes,
)


def dataset(pairing="unpaired"):
    return {
        "channel_names": {"0": "CT", "1": "MRI"},
        "labels": {"background": 0, "heart": 1},
        "rl_nnunet": {"branches": {"CT": ["CT"], "MRI": ["MRI"]}, "pairing": pairing},
    }


def build(plans, configuration="3d_fullres"):
    architecture = plans["configurations"][configuration]["architecture"]
    return get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 2, 3, True
    )


@pytest.mark.parametrize("network", ["ResidualEncoderUNet", "PlainConvUNet"])
def test_stock_plans_get_branches(network):
    plans = stock_plans(network)
    before = deepcopy(plans)
    changed, messages = adapt(plans, "3d_fullres", dataset(), RLU2NetPlan(), {})
    assert plans == before
    assert json.loads(json.dumps(changed)) == changed
    architecture = changed["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == RLU2NetPlan.network_class
    arguments = architecture["arch_kwargs"]
    assert arguments["branches"] == [[0], [1]]
    assert arguments["branch_names"] == ["CT", "MRI"]
    assert arguments["blank_values"] == [-2.0, 0.0]
    assert arguments["aligned_stages"] == [2]
    assert arguments["turnable_axes"] == [[0, 1, 2]]
    net = build(changed)
    assert isinstance(net, RLU2Net)
    assert len(net(torch.randn(1, 2, 8, 16, 16)).logits) == 2
    assert f"(that of {network}) and one decoder for all, XAlign at stages [2]" in messages[0]
    assert messages[0].startswith("The plans are nnUNetPlans, which know no branches.")
    assert "a stem for each of CT, MRI, one encoder" in messages[0]


@pytest.mark.parametrize(("pairing", "stages"), [("unpaired", []), ("paired", []), ("unregistered", [1])])
def test_stages_are_carried_where_a_companion_shows_the_same_anatomy(pairing, stages):
    changed, _ = adapt(stock_plans("PlainConvUNet"), "3d_fullres", dataset(pairing), RLU2NetPlan(), {})
    arguments = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert arguments["carried_stages"] == stages


@pytest.mark.parametrize(
    ("strides", "spacing", "patch", "stages"),
    [
        ([[1, 1, 1], [2, 2, 2], [2, 2, 2]], (1, 1, 1), (64, 64, 64), [0, 1]),
        ([[1, 1, 1], [1, 2, 2], [1, 2, 2]], (5, 1.25, 1.25), (28, 192, 192), []),
        ([[1, 1, 1], [1, 2, 2], [2, 2, 2]], (2.4, 1, 1), (48, 96, 96), [1]),
    ],
    ids=["cubes", "thick slices", "even after one stride"],
)
def test_a_stage_is_not_carried_where_its_maps_would_be_stretched(strides, spacing, patch, stages):
    assert turnable_axes(strides, spacing, patch, [2]) == [[0, 1, 2]]
    assert carried_stages(strides, spacing, patch, aligned_stages(strides)) == stages


@pytest.mark.parametrize(
    ("pairing", "schemes", "notes"),
    [
        ("unpaired", ("CTNormalization", "ZScoreNormalization"), 1),
        ("unpaired", ("ZScoreNormalization", "ZScoreNormalization"), 0),
        ("paired", ("CTNormalization", "ZScoreNormalization"), 0),
    ],
)
def test_poisoned_statistics_are_named(pairing, schemes, notes):
    _, messages = adapt(stock_plans(schemes=schemes), "3d_fullres", dataset(pairing), RLU2NetPlan(), {})
    assert len(messages) == 1 + notes
    if notes:
        assert messages[1].startswith("Channel CT is normalized with intensity statistics that count the zero-filled")
        assert "(0.5 % percentile 0, mean 100)" in messages[1]


def test_a_configuration_that_inherits_gets_its_parents_branches():
    changed, messages = adapt(stock_plans(), "3d_child", dataset(), RLU2NetPlan(), {})
    assert changed["configurations"]["3d_child"] == {"inherits_from": "3d_fullres", "batch_size": 4}
    assert changed["configurations"]["3d_fullres"]["architecture"]["network_class_name"] == RLU2NetPlan.network_class
    assert messages


def test_our_plans_stay_as_they_are():
    ours, _ = adapt(stock_plans(), "3d_fullres", dataset(), RLU2NetPlan(), {})
    again, messages = adapt(ours, "3d_fullres", dataset(), RLU2NetPlan(), {})
    assert again == ours
    assert messages == []


def test_overrides_replace_and_merge():
    ours, _ = adapt(stock_plans(), "3d_fullres", dataset(), RLU2NetPlan(), {})
    overrides = {"branch_dropout": 0.5, "xalign": {"policy": "global"}}
    for plans in (stock_plans(), ours):
        changed, _ = adapt(plans, "3d_fullres", dataset(), RLU2NetPlan(), overrides)
        arguments = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
        assert arguments["branch_dropout"] == 0.5
        assert arguments["xalign"]["policy"] == "global"
        assert arguments["xalign"]["fusion"] == "gated"
        assert build(changed).xalign["2"].policy.kind == "global"


def test_a_cascade_is_refused():
    with pytest.raises(InputError, match="3d_cascade_fullres is a cascade.*train 3d_fullres or 3d_lowres instead"):
        adapt(stock_plans(), "3d_cascade_fullres", dataset(), RLU2NetPlan(), {})


def test_another_network_is_refused():
    with pytest.raises(InputError, match=r"The plans build .*unet.PrimusNet; RL-XAlign needs plans of RLXAlignPlanner"):
        adapt(stock_plans("PrimusNet"), "3d_fullres", dataset(), RLU2NetPlan(), {})


@pytest.mark.parametrize(
    ("strides", "stages"),
    [
        ([[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]], [2, 3]),
        ([[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 1, 1]], [2, 3]),
        ([[1, 1], [2, 2]], []),
    ],
)
def test_stages_are_aligned_from_stride_4(strides, stages):
    assert aligned_stages(strides) == stages


@pytest.mark.parametrize(
    ("spacing", "patch_size", "windows"),
    [
        ([1, 1, 1], [64, 64, 64], [[4, 4, 4], [4, 4, 4]]),
        # At stride 4 the voxels of the first axis are still 2 and 4 times as long as the others.
        ([2, 1, 1], [64, 64, 64], [[2, 4, 4], [2, 4, 4]]),
        ([4, 1, 1], [64, 64, 64], [[1, 4, 4], [1, 4, 4]]),
        ([100, 1, 1], [64, 64, 64], [[1, 4, 4], [1, 4, 4]]),
        # No window exceeds the map.
        ([1, 1, 1], [8, 64, 16], [[2, 4, 4], [1, 4, 2]]),
    ],
)
def test_windows_are_cubes_in_millimeters(spacing, patch_size, windows):
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert attention_windows(strides, spacing, patch_size, [2, 3]) == windows


def test_windows_follow_strides_that_even_out_anisotropy():
    strides = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    assert attention_windows(strides, [4, 1, 1], [32, 64, 64], [2, 3]) == [[4, 4, 4], [4, 4, 4]]


@pytest.mark.parametrize(
    ("spacing", "patch_size", "axes"),
    [
        ([1, 1, 1], [64, 64, 64], [[0, 1, 2], [0, 1, 2]]),
        ([2, 1, 1], [64, 64, 64], [[0, 1, 2], [0, 1, 2]]),
        # Thick slices stay slices; so do few slices of a fine spacing.
        ([2.1, 1, 1], [64, 64, 64], [[1, 2], [1, 2]]),
        ([1, 1, 1], [16, 64, 64], [[1, 2], [1, 2]]),
        # The first and the second axis are alike, and so are the second and the third: the pair most alike is taken.
        ([1, 1.8, 3], [64, 64, 64], [[1, 2], [1, 2]]),
        ([1, 3, 9], [64, 64, 64], [[], []]),
        ([1, 1], [64, 96], [[0, 1], [0, 1]]),
        ([1, 1], [32, 96], [[], []]),
        ([3, 1], [64, 64], [[], []]),
    ],
)
def test_axes_are_turnable_up_to_a_factor_of_2(spacing, patch_size, axes):
    dimension = len(spacing)
    strides = [[1] * dimension, *[[2] * dimension] * 3]
    assert turnable_axes(strides, spacing, patch_size, [2, 3]) == axes


def test_turnable_axes_follow_strides_that_even_out_anisotropy():
    """Slices of 10 mm, as in cardiac MR: four times the spacing in the plane at stage 1, and 16 of them at all stages.

    At stage 2, 16 slices are a third of the extent in the plane; at stage 3, spacing and extent are alike.
    """
    strides = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 2]]
    assert turnable_axes(strides, [10, 1.25, 1.25], [16, 192, 160], [1, 2, 3]) == [[1, 2], [1, 2], [0, 1, 2]]
