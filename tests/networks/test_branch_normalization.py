"""Scales and shifts per branch: equal to a network of its own for each branch, at hardly any parameters."""

from copy import deepcopy

import pytest
import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn

from rl_nnunet.networks.backbone import initialize_as_nnunet
from rl_nnunet.networks.branch_normalization import BranchAffine, separate_normalizations


def encoder(dimension=2, affine=True):
    conv, norm = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}[dimension]
    return ResidualEncoder(
        2, 2, (8, 16), conv, 3, (1, 2), (1, 2), conv_bias=True, norm_op=norm, norm_op_kwargs={"affine": affine},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, return_skips=True,
    )  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3])
def test_rows_of_a_branch_go_through_the_affine_parameters_of_that_branch(dimension):
    torch.manual_seed(0)
    shared = encoder(dimension)
    alone = [deepcopy(shared) for _ in range(2)]
    rows = separate_normalizations(shared, 2)
    separated = {id(m): m for m in shared.modules() if isinstance(m, BranchAffine)}.values()
    norms = [
        list({id(m): m for m in each.modules() if isinstance(m, nn.InstanceNorm2d | nn.InstanceNorm3d)}.values())
        for each in alone
    ]
    assert len(separated) == len(norms[0]) == len(norms[1])
    with torch.no_grad():
        for own, first, second in zip(separated, *norms, strict=True):
            for branch, norm in enumerate((first, second)):
                norm.weight.uniform_(0.5, 2)
                norm.bias.uniform_(-1, 1)
                own.weight[branch], own.bias[branch] = norm.weight, norm.bias
    x = torch.randn(3, 2, *(8,) * dimension)
    rows.branches = torch.tensor([0, 1, 1])
    for together, first, second in zip(shared(x), alone[0](x[:1]), alone[1](x[1:]), strict=True):
        torch.testing.assert_close(together, torch.cat((first, second)))


def test_all_branches_start_as_nnunet_does_and_get_gradients_apart():
    network = encoder()
    rows = separate_normalizations(network, 2)
    network.apply(initialize_as_nnunet)
    last = network.stages[0].blocks[0].conv2.norm
    assert isinstance(last, BranchAffine)
    assert (last.weight == 0).all()
    assert network.stages[0].blocks[0].conv2.all_modules[1] is last
    rows.branches = torch.tensor([1, 1])
    network(torch.randn(2, 2, 8, 8))[-1].square().sum().backward()
    assert last.weight.grad[1].any()
    assert not last.weight.grad[0].any()


def test_hardly_any_parameters():
    plain, separated = encoder(), encoder()
    separate_normalizations(separated, 2)
    count = [sum(p.numel() for p in each.parameters()) for each in (plain, separated)]
    norms = {id(m): m for m in plain.modules() if isinstance(m, nn.InstanceNorm2d)}.values()
    assert count[1] - count[0] == sum(2 * m.num_features for m in norms)


def test_nothing_to_separate():
    with pytest.raises(ValueError, match="no affine instance normalization"):
        separate_normalizations(encoder(affine=False), 2)


def test_a_branch_is_normalized_by_its_own_parameters_in_the_network(tiny_network):
    network = tiny_network(2, branch_normalization=True, aligned_stages=[], windows=[]).eval()
    alone, other = torch.randn(2, 2, 8, 8), torch.randn(2, 2, 8, 8)
    alone[:, 1] = 0
    other[:, 0] = 0
    before = network(alone), network(other)
    with torch.no_grad():
        for module in network.encoder.modules():
            if isinstance(module, BranchAffine):
                module.weight[1] *= 2
    assert torch.equal(network(alone), before[0])
    assert not torch.allclose(network(other), before[1])
