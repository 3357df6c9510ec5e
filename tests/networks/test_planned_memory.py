"""The estimate that planners plan memory by, against the bytes that autograd keeps, on the scale of nnU-Net's own."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.networks.intra_inter_net import IntraInterNet
from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.plans.intra_inter_net import modality_arguments
from rl_nnunet.plans.rl_u2net import branch_arguments

FEATURES, STAGES, SAMPLES = 16, 4, 1
PATCHES = {2: [64, 64], 3: [16, 16, 16]}
TOLERANCE = 0.1


def topology(dimension):
    """Arguments of nnU-Net's residual encoder U-Net."""
    return {
        "n_stages": STAGES,
        "features_per_stage": [FEATURES * 2**stage for stage in range(STAGES)],
        "conv_op": (nn.Conv2d, nn.Conv3d)[dimension - 2],
        "kernel_sizes": [[3] * dimension] * STAGES,
        "strides": [[1] * dimension, *[[2] * dimension] * (STAGES - 1)],
        "n_blocks_per_stage": [1, 2, 2, 2],
        "n_conv_per_stage_decoder": [1] * (STAGES - 1),
        "conv_bias": True,
        "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
        "norm_op_kwargs": {"affine": True, "eps": 1e-5},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def dataset_json(channels, pairing):
    names = [f"MR{index}" for index in range(channels)]
    return {
        "channel_names": dict(zip(map(str, range(channels)), names, strict=True)),
        "labels": {"background": 0, "heart": 1, "aorta": 2},
        "file_ending": ".nii.gz",
        "rl_nnunet": {"branches": {name: [name] for name in names}, "pairing": pairing},
    }


def kept_bytes(network, dimension, channels):
    """Return the bytes that a forward pass keeps for the backward pass, without the weights, for each counted value."""
    kept, alive = {}, []
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no other storage takes its address
        return tensor

    torch.manual_seed(0)
    x = torch.randn(SAMPLES, channels, *PATCHES[dimension])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network.train()(x)
    assert output is not None
    return sum(kept.values()) / (SAMPLES * float(network.compute_conv_feature_map_size(PATCHES[dimension])))


def aligned(dimension, channels, **arguments):
    layout = layout_from_dataset_json(dataset_json(channels, "unpaired"))
    plan = topology(dimension)
    own = branch_arguments(layout, [0.0] * channels, plan["strides"], [1.0] * dimension, PATCHES[dimension])
    return RLU2Net(channels, 3, True, **plan, **{**own, "branch_dropout": 0.0, **arguments})


def iterated(dimension, channels, **arguments):
    plan = topology(dimension)
    own = modality_arguments(dataset_json(channels, "paired"), [0.0] * channels, plan, PATCHES[dimension])
    return IntraInterNet(channels, 3, True, **{**plan, **own, **arguments})


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (aligned, {}),
        (aligned, {"shared_decoder": True}),
        (aligned, {"xalign": {"cross_modal_attention": False, "selected_rotations": 3}}),
        (aligned, {"carried_stages": [0, 1]}),
        (aligned, {"aligned_stages": [], "windows": [], "turnable_axes": []}),
        (iterated, {}),
        (iterated, {"agents": [], "iterations": 0}),
    ],
    ids=["RL-XAlign", "shared decoder", "three rotations", "carried", "no XAlign", "agents", "no agents"],
)
def test_estimates_are_those_of_nnunets_network_within_a_tenth(build, arguments, dimension, channels):
    stock = ResidualEncoderUNet(channels, num_classes=3, deep_supervision=True, **topology(dimension))
    ours = kept_bytes(build(dimension, channels, **arguments), dimension, channels)
    assert ours == pytest.approx(kept_bytes(stock, dimension, channels), rel=TOLERANCE)
