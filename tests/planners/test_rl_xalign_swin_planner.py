"""Plans with a Swin transformer: they build the network, and their memory estimate is that of the Swin transformer."""

import json
from copy import deepcopy

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from rl_nnunet.networks.swin_encoder import SwinEncoder
from rl_nnunet.planners.rl_xalign_swin_planner import RLXAlignSwinPlanner, with_swin_encoder

SHAPE = (12, 24, 32)


@pytest.fixture
def planner(write_dataset, unpaired_cases, nnunet_folders):
    """A planner of a data set whose fingerprint is written by hand: 3 mm by 1 mm by 1 mm, 12 x 24 x 32 voxels."""
    write_dataset("Dataset001_Unpaired", unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]})
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Unpaired"
    folder.mkdir()
    statistics = {"mean": 100.0, "std": 50.0, "percentile_00_5": -50.0, "percentile_99_5": 250.0}
    fingerprint = {
        "spacings": [[3.0, 1.0, 1.0]] * 4,
        "shapes_after_crop": [list(SHAPE)] * 4,
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": statistics, "1": statistics},
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    planner = RLXAlignSwinPlanner(1, gpu_memory_target_in_gb=1)
    planner.UNet_base_num_features = 8
    return planner


@pytest.fixture
def plans(planner, nnunet_folders):
    """The plans, as the JSON file carries them."""
    planner.plan_experiment()
    file = nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Unpaired" / "RLXAlignSwinPlans.json"
    return json.loads(file.read_text())


def build(plan):
    architecture = plan["architecture"]
    return get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"], 2, 2,
        deep_supervision=False,
    )  # fmt: skip


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_plans_build_the_network(plans, configuration):
    plan = plans["configurations"][configuration]
    arguments = plan["architecture"]["arch_kwargs"]
    assert plans["plans_name"] == "RLXAlignSwinPlans"
    assert "n_blocks_per_stage" not in arguments
    net = build(plan).eval()
    assert isinstance(net.encoder, SwinEncoder)
    with torch.no_grad():
        logits = net(torch.randn(1, 2, *plan["patch_size"]))
    assert logits.shape == (1, 2, *plan["patch_size"])


def test_windows_follow_the_anisotropy(plans):
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert arguments["strides"][1] == [1, 2, 2]  # from 3 x 1 x 1 mm to 3 x 2 x 2 mm
    assert arguments["swin_windows"][0] == [3, 4, 4]
    assert len(arguments["swin_windows"]) == arguments["n_stages"] - 1
    assert arguments["swin_blocks_per_stage"] == [1] + [2] * (arguments["n_stages"] - 1)


def test_memory_estimate_is_that_of_the_swin_transformer(planner, plans, monkeypatch):
    plan = plans["configurations"]["3d_fullres"]
    architecture, patch = plan["architecture"], plan["patch_size"]
    stock = deepcopy(architecture["arch_kwargs"])
    for name in ("swin_blocks_per_stage", "swin_windows", "swin_head_channels"):
        del stock[name]
    stock["n_blocks_per_stage"] = [1] * stock["n_stages"]
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    estimate = planner.static_estimate_VRAM_usage(
        patch, 2, 2, architecture["network_class_name"], stock, architecture["_kw_requires_import"]
    )
    isotropic = with_swin_encoder(stock, [1.0] * 3, patch)
    counted = build({"architecture": {**architecture, "arch_kwargs": isotropic}})
    assert estimate == counted.compute_conv_feature_map_size(patch)
    assert estimate > build({"architecture": {**architecture, "arch_kwargs": stock}}).compute_conv_feature_map_size(
        patch
    )
