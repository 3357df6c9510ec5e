"""A network of three stages and a few features."""

import pytest
import torch
from torch import nn

from rl_nnunet.networks.intra_inter_net import IntraInterNet
from rl_nnunet.networks.rl_u2net import RLU2Net


@pytest.fixture
def tiny_network():
    """Return a function that builds an initialized network; keyword arguments replace the defaults below."""

    def build(dimension=3, branches=((0,), (1,)), residual=True, initialize=True, **arguments):
        torch.manual_seed(0)
        defaults = {
            "input_channels": sum(map(len, branches)),
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": (nn.Conv2d, nn.Conv3d)[dimension - 2],
            "kernel_sizes": [[3] * dimension] * 3,
            "strides": [[1] * dimension, [2] * dimension, [2] * dimension],
            "num_classes": 3,
            "n_conv_per_stage_decoder": [1, 1],
            "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 2, 1],
            "conv_bias": True,
            "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
            "norm_op_kwargs": {"affine": True, "eps": 1e-5},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
            "branches": branches,
            "branch_names": [f"branch_{i}" for i in range(len(branches))],
            "blank_values": [0.0] * sum(map(len, branches)),
            "aligned_stages": [1, 2],
            "windows": [[2] * dimension] * 2,
        }
        network = RLU2Net(**{**defaults, **arguments})
        if not initialize:
            # Weights of every layer count: after nnU-Net's initialization residual blocks start as the identity.
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.3)
            return network
        return network.apply(network.initialize)

    return build


@pytest.fixture
def tiny():
    """Return a function that builds an `IntraInterNet`; keyword arguments replace the defaults below."""

    def build(dimension=3, modalities=3, residual=True, **arguments):
        torch.manual_seed(0)
        defaults = {
            "input_channels": modalities,
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": (nn.Conv2d, nn.Conv3d)[dimension - 2],
            "kernel_sizes": [[3] * dimension] * 3,
            "strides": [[1] * dimension, [2] * dimension, [2] * dimension],
            "num_classes": 2,
            "n_conv_per_stage_decoder": [1, 1],
            "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 1, 1],
            "conv_bias": True,
            "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
            "norm_op_kwargs": {"affine": True, "eps": 1e-5},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
            "modality_names": [f"modality_{i}" for i in range(modalities)],
            "blank_values": [0.0] * modalities,
            "hidden_size": 8,
            "exploration_share": 1.0,
        }
        network = IntraInterNet(**{**defaults, **arguments})
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        return network

    return build
