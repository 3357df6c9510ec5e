"""The planners on phantom hearts: plans that build the network, planned for the memory that it needs."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.branches import blank_values
from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.planners.agent_network_planner import tell_air_from_absence
from rl_nnunet.planners.rl_xalign_planner import RLXAlignPlanner
from rl_nnunet.presence.cases import CONSTANT_TOLERANCE

SMALL = "RLXAlignSmallPlans"


@pytest.fixture
def small_plans(hearts):
    return json.loads((hearts.preprocessed / f"{SMALL}.json").read_text())


def build(plans, configuration):
    manager = PlansManager(plans).get_configuration(configuration)
    return manager, get_network_from_plans(
        manager.network_arch_class_name,
        manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import,
        2,
        8,
        deep_supervision=True,
    )


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_plans_carry_every_choice_and_build_the_network(small_plans, configuration):
    assert small_plans["plans_name"] == SMALL
    manager, network = build(small_plans, configuration)
    assert isinstance(network, RLU2Net)
    arguments = manager.network_arch_init_kwargs
    assert arguments["branches"] == [[0], [1]]
    assert arguments["branch_names"] == ["CT", "MRI"]
    assert arguments["branch_dropout"] == 0.25
    assert set(arguments["xalign"]) == {
        "selected_rotations", "fusion", "fusion_weight", "initial_gate", "policy", "cross_modal_attention",
        "position_bias", "feeds",
    }  # fmt: skip
    assert len(arguments["windows"]) == len(arguments["turnable_axes"]) == len(arguments["aligned_stages"]) > 0
    assert all(len(window) == len(manager.patch_size) for window in arguments["windows"])
    assert arguments["features_per_stage"][0] == 8
    output = network(torch.randn(1, 2, *manager.patch_size))
    assert [logits[0].shape for logits in output.logits] == [(1, 8, *manager.patch_size)] * 2


def test_data_are_preprocessed_apart_from_stock_data(small_plans):
    for configuration in ("2d", "3d_fullres"):
        assert small_plans["configurations"][configuration]["data_identifier"] == f"{SMALL}_{configuration}"


def test_blank_values_are_those_of_the_preprocessed_blank_channels(hearts, small_plans):
    blank = small_plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["blank_values"]
    assert blank[1] == 0
    dataset = nnUNetDatasetBlosc2(str(hearts.preprocessed / f"{SMALL}_3d_fullres"))
    for case in dataset.identifiers:
        channel = 1 if case.startswith("ct") else 0
        data = np.asarray(dataset.load_case(case)[0][:])
        assert np.abs(data[channel] - blank[channel]).max() < 1e-4
        assert np.ptp(data[1 - channel]) > 1


def test_ct_statistics_come_from_ct_alone(small_plans):
    ct = small_plans["foreground_intensity_properties_per_channel"]["0"]
    assert ct["percentile_00_5"] != 0
    assert ct["std"] > 0


@pytest.mark.parametrize(
    ("percentile", "planned"), [(-120.0, -120.0), (-1.0, -1.0), (-0.5, -1.0), (0.0, -1.0), (60.0, -1.0)]
)
def test_air_of_a_ct_is_not_what_an_absent_ct_is(percentile, planned):
    """nnU-Net's own normalization of air and of zeros, with the statistics that are planned."""
    ct = {"mean": 150.0, "std": 80.0, "percentile_00_5": percentile, "percentile_99_5": 400.0}
    mri = dict(ct)
    properties = {"0": ct, "1": mri}
    tell_air_from_absence(properties, {"channel_names": {"0": "CT", "1": "MRI"}})
    assert (ct["percentile_00_5"], mri["percentile_00_5"]) == (planned, percentile)
    air, zeros = (CTNormalization(False, ct).run(np.full((4, 4, 4), value, np.float32)).max() for value in (-1000, 0))
    assert zeros == pytest.approx(blank_values(["CTNormalization"], properties)[0])
    assert abs(air - zeros) > 10 * CONSTANT_TOLERANCE


def test_memory_estimate_exceeds_that_of_one_branch(own_hearts):
    ours, stock = RLXAlignPlanner(own_hearts.name), ResEncUNetPlanner(own_hearts.name)
    arguments = {
        "n_stages": 3,
        "features_per_stage": (8, 16, 32),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": ((3, 3, 3),) * 3,
        "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        "n_blocks_per_stage": (1, 1, 1),
        "n_conv_per_stage_decoder": (1, 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    estimates = [
        planner.static_estimate_VRAM_usage(
            (16, 16, 16), 2, 8, f"{planner.UNet_class.__module__}.{planner.UNet_class.__name__}", arguments,
            ("conv_op", "norm_op", "dropout_op", "nonlin"),
        )
        for planner in (ours, stock)
    ]  # fmt: skip
    assert 2 * estimates[1] < estimates[0] < 4 * estimates[1]


def test_default_planner_keeps_the_full_network(own_hearts, tmp_path):
    RLXAlignPlanner(own_hearts.name).plan_experiment()
    plans = json.loads((tmp_path / own_hearts.name / "RLXAlignPlans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == "rl_nnunet.networks.rl_u2net.RLU2Net"
    assert architecture["arch_kwargs"]["features_per_stage"][0] == 32
    assert architecture["arch_kwargs"]["n_blocks_per_stage"][:3] == [1, 3, 4]
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "RLXAlignPlans_3d_fullres"
    assert plans["experiment_planner_used"] == "RLXAlignPlanner"
