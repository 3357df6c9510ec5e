"""From plans to the arguments of the agents' network: stock plans, ours, and what neither can be."""

import json

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from stock_plans import stock_plans

from rl_nnunet.errors import InputError
from rl_nnunet.networks.intra_inter_net import IntraInterNet
from rl_nnunet.plans.adapt import adapt
from rl_nnunet.plans.intra_inter_net import IntraInterNetPlan, modality_arguments

ARCHITECTURE = stock_plans()["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
PATCH = [8, 16, 16]
PAIRED = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": {"background": 0, "heart": 1}}


@pytest.mark.parametrize("network", ["ResidualEncoderUNet", "PlainConvUNet"])
def test_stock_plans_get_modalities(network):
    changed, messages = adapt(stock_plans(network), "3d_child", PAIRED, IntraInterNetPlan(), {})
    assert json.loads(json.dumps(changed)) == changed
    architecture = changed["configurations"]["3d_fullres"]["architecture"]
    arguments = architecture["arch_kwargs"]
    assert arguments["modality_names"] == ["CT", "MRI"]
    assert arguments["blank_values"] == [-2.0, 0.0]
    net = get_network_from_plans(
        IntraInterNetPlan.network_class, arguments, architecture["_kw_requires_import"], 2, 3, True
    )
    assert isinstance(net, IntraInterNet)
    assert len(net(torch.randn(1, 2, 8, 16, 16)).iterations) == 2
    assert "an encoder for each of CT, MRI" in messages[0]
    assert adapt(changed, "3d_fullres", PAIRED, IntraInterNetPlan(), {}) == (changed, [])


@pytest.mark.parametrize(("tumor", "regions"), [(1, False), ([1], False), ([1, 2], True)])
def test_regions_are_told_from_classes(tumor, regions):
    labels = {"background": 0, "tumor": tumor, "core": 2}
    assert modality_arguments({**PAIRED, "labels": labels}, [0.0] * 2, ARCHITECTURE, PATCH)["regions"] is regions


def test_overrides_of_an_ablation():
    overrides = {"agents": [], "iterations": 0}
    changed, _ = adapt(stock_plans(), "3d_fullres", PAIRED, IntraInterNetPlan(), overrides)
    arguments = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert arguments["fused_output_weight"] == 4
    assert (arguments["agents"], arguments["iterations"]) == ([], 0)


def test_channels_of_one_name_are_told_apart():
    names = {"0": "rescale", "1": "rescale", "2": "CT"}
    arguments = modality_arguments({"channel_names": names}, [0.0] * 3, ARCHITECTURE, PATCH)
    assert arguments["modality_names"] == [
        "rescale_0",
        "rescale_1",
        "CT_2",
    ]


@pytest.mark.parametrize(
    ("plans", "configuration", "dataset_json", "message"),
    [
        (stock_plans(), "3d_cascade_fullres", PAIRED, "3d_cascade_fullres is a cascade"),
        (stock_plans("PrimusNet"), "3d_fullres", PAIRED, "unet.PrimusNet; the agents need plans of IntraInterPlanner"),
        (
            stock_plans(),
            "3d_fullres",
            {**PAIRED, "rl_nnunet": {"branches": {"CT": ["CT"], "MRI": ["MRI"]}, "pairing": "unpaired"}},
            "The data set is unpaired",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(plans, configuration, dataset_json, message):
    with pytest.raises(InputError, match=message):
        adapt(plans, configuration, dataset_json, IntraInterNetPlan(), {})
