"""Stages that follow the pose of another one, against rotations that are made one by one."""

import pytest
import torch
from test_xalign import CHANNELS, block_options, links, turned

from rl_nnunet.networks.carried_pose import CarriedPose
from rl_nnunet.networks.xalign import XAlignConfig


def carried(dimension=3, exchanged=None, **config):
    torch.manual_seed(0)
    axes = range(dimension) if exchanged is None else exchanged
    return CarriedPose(CHANNELS, dimension, axes, XAlignConfig(**config), block_options(dimension))


@pytest.mark.parametrize(("dimension", "spatial"), [(2, (4, 4)), (2, (4, 6)), (3, (4, 4, 4)), (3, (2, 4, 5))])
@pytest.mark.parametrize("rotations", [[[3], [1]], [[0, 2], [1, 3]]], ids=["one", "the mean of two"])
def test_each_row_is_fused_with_the_turned_map_of_its_companion_or_with_itself(dimension, spatial, rotations):
    """Rows 0 and 2 look at each other, row 1 is alone."""
    module, features = carried(dimension), torch.randn(3, CHANNELS, *spatial)
    given = links((0, 2, 0, 1), (2, 0, 1, 0), rows=3)
    fused = module(features, given, torch.tensor(rotations))
    companions = [features[1]] * 3
    for row, other, drawn in ((0, 2, rotations[0]), (2, 0, rotations[1])):
        companions[row] = sum(turned(features[other], index) for index in drawn) / len(drawn)
    torch.testing.assert_close(fused, module.fusion(features, torch.stack(companions)))


def test_several_companions_are_averaged():
    module, features = carried(2), torch.randn(3, CHANNELS, 4, 4)
    fused = module(features, links((0, 1, 0, 1), (0, 2, 0, 2), rows=3), torch.tensor([[1], [3]]))
    mean = (turned(features[1], 1) + turned(features[2], 3)) / 2
    torch.testing.assert_close(fused[:1], module.fusion(features[:1], mean[None]))


def test_without_links_all_rows_are_their_own_companions():
    module, features = carried(2), torch.randn(2, CHANNELS, 4, 4)
    torch.testing.assert_close(module(features, links(rows=2), None), module.fusion(features, features))


def test_a_network_turns_its_carried_stages_as_the_first_aligned_stage_has_drawn(tiny_network):
    network = tiny_network(2, carried_stages=[0], branch_dropout=0.0, deep_supervision=False)
    seen = []
    network.carried["0"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    output = network(torch.randn(2, 2, 8, 8))
    assert torch.equal(seen[0], output.alignments[0].rotations)


def test_detail_of_a_companion_gets_through_at_full_resolution(tiny_network):
    """The gradient of the fine maps of one branch by the other's image; without carried stages there is none.

    With the fused map of the decoder's last skip alone, because the coarse stages hand on a blurred companion anyway.
    """
    grads = []
    for stages in ([], [0]):
        network = tiny_network(2, carried_stages=stages, branch_dropout=0.0, initialize=False)
        x = torch.randn(1, 2, 8, 8, requires_grad=True)
        skips, _ = network._encode(*encoder_inputs(network, x))
        skips[0][0].square().sum().backward()
        grads.append(float(x.grad[0, 1].abs().sum()))
    assert grads[0] == 0
    assert grads[1] > 0


def encoder_inputs(network, x):
    """Return what the encoder gets of a sample with both branches, and the links."""
    checked, samples = network.samples_per_branch(x)
    stems = [stem(checked[:, channels]) for stem, channels in zip(network.stems, network.branches, strict=True)]
    return torch.cat(stems), network._links(samples, x.device)[0]


@pytest.mark.parametrize(
    ("stages", "aligned"), [([1], [1, 2]), ([2], [1]), ([0], [])], ids=["aligned", "behind", "without any"]
)
def test_carried_stages_lie_before_the_first_aligned_one(tiny_network, stages, aligned):
    with pytest.raises(ValueError, match="carried stages .* must lie before the first aligned one"):
        tiny_network(2, carried_stages=stages, aligned_stages=aligned, windows=[[2, 2]] * len(aligned))
