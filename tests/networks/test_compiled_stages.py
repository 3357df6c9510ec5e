"""The stages of the network are one graph: what decides on the host is done before the first."""

import pytest
import torch

from rl_nnunet.policies.rotations import rotation_matrices


@pytest.mark.parametrize(("mode", "dimension"), [("train", 3), ("eval", 2)])
def test_no_graph_break_between_the_stages(tiny_network, mode, dimension):
    torch._dynamo.reset()
    stage = {"aligned_stages": [1], "carried_stages": [0], "windows": [[2] * dimension]}
    network = getattr(tiny_network(dimension, branch_dropout=0.0, n_blocks_per_stage=[1, 1, 1], **stage), mode)()
    x, samples = network.samples_per_branch(torch.randn(2, 2, *[8] * dimension))
    links = network._links(samples, x.device)[0]
    stems = torch.cat([stem(x[:, [channel]]) for channel, stem in enumerate(network.stems)])
    found = torch._dynamo.explain(network._encode)(stems, links)
    assert found.graph_break_count == 0, [reason.reason for reason in found.break_reasons]
    assert found.graph_count == 1
    assert not rotation_matrices(dimension).flags.writeable  # a compiler would have made it so, had it met the array
    torch._dynamo.reset()
