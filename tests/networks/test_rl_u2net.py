"""The network: which branches run, what they return, and that a branch alone is a branch alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from rl_nnunet.outputs import BranchOutput

CT_BLANK = -1.25


def anisotropic():
    """Arguments for a network whose first downsampling leaves the first axis alone."""
    return {
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "windows": [[1, 2, 2], [2, 2, 2]],
    }


def without(x, channels):
    x = x.clone()
    x[:, channels] = 0
    return x


def test_stems_of_as_many_channels_start_alike(tiny_network):
    """nnU-Net initializes every module by itself; equal images are equal to the encoder after that, and not before."""
    branches = ((0,), (1,), (2, 3), (4,))
    image = torch.randn(1, 2, 8, 8)
    for initialize in (False, True):
        network = tiny_network(2, branches, initialize=initialize)
        one, other, two, last = (stem(image[:, : len(own)]) for stem, own in zip(network.stems, branches, strict=True))
        assert torch.equal(one, other) == torch.equal(one, last) == initialize
        assert not torch.equal(one, two)
    parameters = [next(stem.parameters()) for stem in network.stems]
    assert len({parameter.data_ptr() for parameter in parameters}) == 4  # equal, but not the same


@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
@pytest.mark.parametrize("deep_supervision", [True, False], ids=["scales", "finest"])
@pytest.mark.parametrize(
    ("dimension", "spatial", "branches", "arguments"),
    [
        (2, (16, 16), ((0,), (1,)), {}),
        (2, (12, 20), ((0,), (1,), (2,)), {}),
        (3, (8, 8, 8), ((0, 2), (1,)), {}),
        (3, (8, 12, 16), ((0,), (1,), (2, 3)), {}),
        (3, (6, 12, 20), ((0,), (1,)), anisotropic()),
    ],
    ids=["2D", "2D, odd map, 3 branches", "3D, 2 channels", "3D, odd map, 3 branches", "anisotropic"],
)
def test_shapes_and_gradient(tiny_network, residual, deep_supervision, dimension, spatial, branches, arguments):
    network = tiny_network(dimension, branches, residual, deep_supervision=deep_supervision, branch_dropout=0.0,
                           **arguments)  # fmt: skip
    x = torch.randn(2, sum(map(len, branches)), *spatial)
    output = network(x)
    assert isinstance(output, BranchOutput)
    number = len(branches)
    assert output.samples == [[0, 1]] * number
    assert len(output.alignments) == 2
    assert sorted(output.link_samples) == sorted([0, 1] * number * (number - 1))
    strides = np.cumprod(network.encoder.strides, axis=0)
    scales = [tuple(np.array(spatial) // stride) for stride in strides[:-1]]
    loss = 0
    for logits in output.logits:
        shapes = [tuple(scale.shape) for scale in logits] if deep_supervision else [tuple(logits.shape)]
        assert shapes == [(2, 3, *scale) for scale in (scales if deep_supervision else scales[:1])]
        loss = loss + sum(scale.square().sum() for scale in (logits if deep_supervision else [logits]))
    loss.backward()
    untouched = {name for name, p in network.named_parameters() if p.grad is None and ".policy." not in name}
    # Without deep supervision nnU-Net builds the coarse heads, too, and does not run them.
    assert all(".seg_layers." in name for name in untouched)
    assert deep_supervision is False or not untouched

    network.eval()
    predicted = network(x)
    shapes = [tuple(scale.shape) for scale in predicted] if deep_supervision else [tuple(predicted.shape)]
    assert shapes == [(2, 3, *scale) for scale in (scales if deep_supervision else scales[:1])]


def test_nnunets_switch_reaches_every_decoder(tiny_network):
    network = tiny_network(deep_supervision=True).eval()
    x = torch.randn(1, 2, 8, 8, 8)
    scales = network(x)
    network.decoder.deep_supervision = False
    assert torch.equal(network(x), scales[0])
    assert all(not decoder.deep_supervision for decoder in network.decoder)


@pytest.mark.parametrize("deep_supervision", [True, False], ids=["scales", "finest"])
@pytest.mark.parametrize("absent", [[], [1]], ids=["both", "one branch"])
def test_a_shared_decoder_is_equal_decoders_of_all_branches(tiny_network, deep_supervision, absent):
    """One pass over the rows of all branches gives what a decoder per branch gives, if their weights are equal."""
    arguments = {"deep_supervision": deep_supervision, "branch_dropout": 0.0, "initialize": False}
    separate, shared = tiny_network(**arguments), tiny_network(shared_decoder=True, **arguments)
    assert len(shared.decoder) == 1
    separate.load_state_dict(shared.state_dict(), strict=False)
    separate.decoder[1].load_state_dict(shared.decoder[0].state_dict())
    x = without(torch.randn(2, 2, 8, 8, 8), absent)
    outputs = (network.eval().forward_branches(x) for network in (shared, separate))  # not drawing rotations
    for ours, theirs in zip(*(output.logits for output in outputs), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)
    assert shared.compute_conv_feature_map_size((8, 8, 8)) == separate.compute_conv_feature_map_size((8, 8, 8))


def test_without_xalign_each_branch_is_alone(tiny_network):
    network = tiny_network(aligned_stages=[], windows=[], deep_supervision=False, initialize=False)
    x = torch.randn(2, 2, 8, 8, 8)
    pair = network(x)
    assert pair.alignments == []
    for branch in range(2):
        alone = network(without(x, [1 - branch]))
        torch.testing.assert_close(pair.logits[branch], alone.logits[branch])


def test_with_xalign_the_branches_see_each_other(tiny_network):
    network = tiny_network(deep_supervision=False, branch_dropout=0.0)
    x = torch.randn(1, 2, 8, 8, 8)
    assert not torch.allclose(network(x).logits[0], network(without(x, [1])).logits[0])


@pytest.mark.parametrize(("dropout", "low", "high"), [(0.0, 0, 0), (0.25, 60, 140), (1.0, 400, 400)])
def test_branch_dropout_withholds_samples_in_training_only(tiny_network, dropout, low, high):
    network = tiny_network(branch_dropout=dropout)
    torch.manual_seed(0)
    linked = 0
    for _ in range(200):
        links, samples, directions = network._links([[0, 1], [0, 1]], torch.device("cpu"))
        assert len(samples) == len(directions) == 2 * len(set(samples))  # both directions or none
        assert links.branches.tolist() == [list(pair) for pair in directions]
        assert len(links.lone) == 4 - len(samples)
        linked += len(set(samples))
    assert low <= 400 - linked <= high
    network.eval()
    assert len(network._links([[0, 1], [0, 1]], torch.device("cpu"))[1]) == 4


def test_links_join_rows_of_one_sample(tiny_network):
    network = tiny_network(branches=((0,), (1,), (2,)), branch_dropout=0.0)
    samples = [[0, 2], [1, 2], [0, 1, 2]]
    rows = [(sample, branch) for branch, indices in enumerate(samples) for sample in indices]
    links, link_samples, link_branches = network._links(samples, torch.device("cpu"))
    assert len(link_samples) == 2 + 2 + 6
    for main, auxiliary, branches, sample in zip(*links[:2], link_branches, link_samples, strict=True):
        assert rows[main] == (sample, branches[0])
        assert rows[auxiliary] == (sample, branches[1])
        assert branches[0] != branches[1]
    assert len({(a.item(), b.item()) for a, b in zip(links.main, links.auxiliary, strict=True)}) == 10


def test_only_branches_that_show_one_place_see_each_other_in_training(tiny_network):
    network = tiny_network(branches=((0,), (1,), (2,)), branch_dropout=0.0)
    network.together = [[0, 1, 2], [0, 2], []]
    samples, device = [[0, 1, 2]] * 3, torch.device("cpu")
    _, link_samples, link_branches = network._links(samples, device)
    assert link_samples.count(0) == 6
    pairs = [branches for sample, branches in zip(link_samples, link_branches, strict=True) if sample == 1]
    assert pairs == [(0, 2), (2, 0)]
    assert 2 not in link_samples
    network.eval()  # the batches of a prediction are others
    assert len(network._links(samples, device)[1]) == 18


def test_weights_make_a_round_trip(tiny_network):
    first = tiny_network(initialize=False).eval()
    second = tiny_network().eval()
    x = torch.randn(1, 2, 8, 8, 8)
    assert not torch.allclose(first(x)[0], second(x)[0])
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(x), second(x), strict=True):
        assert torch.equal(a, b)
    assert not any("blank_values" in name for name in first.state_dict())  # they come from the plans


@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
@pytest.mark.parametrize(("attention", "selected"), [(True, 1), (False, 3)])
def test_memory_estimate_counts_the_maps(tiny_network, residual, attention, selected):
    """What nnU-Net counts for encoder and decoders, the maps of stems as they come out, and XAlign's.

    `test_planned_memory` compares the estimate with what is kept.
    """
    network = tiny_network(
        branches=((0,), (1,), (2,)),
        residual=residual,
        deep_supervision=True,
        branch_dropout=0.0,
        xalign={"cross_modal_attention": attention, "selected_rotations": selected},
    )
    counted = 0

    def count(_, __, output):
        nonlocal counted
        counted += output.numel()

    for stem in network.stems:
        stem.register_forward_hook(count)
    alignments = network(torch.randn(1, 3, 8, 8, 16)).alignments
    # Kept once, a half: a link's two maps, queries, keys, values, attended and projected, or the auxiliary one; what is
    # rotated, which is repeated for several rotations; a branch's fused map. Its block has two convolutions.
    of_link = ((7 if attention else 1) + (selected if selected == 1 else 2 * selected)) / 2
    xalign = sum((6 * of_link + 3 * 2.5) / 6 * alignment.main.numel() for alignment in alignments)
    nnunet = 3 * network.encoder.compute_conv_feature_map_size([8, 8, 16])
    nnunet += sum(decoder.compute_conv_feature_map_size([8, 8, 16]) for decoder in network.decoder)
    assert network.compute_conv_feature_map_size((8, 8, 16)) == nnunet + counted + xalign


def test_memory_estimate_grows_with_the_branches(tiny_network):
    sizes = [
        tiny_network(branches=tuple((i,) for i in range(n))).compute_conv_feature_map_size((8, 8, 8)) for n in (1, 2, 3)
    ]
    assert all(b > a for a, b in pairwise(sizes))


def test_residual_blocks_and_fusion_start_as_nnunet_starts_them(tiny_network):
    network = tiny_network()
    for module in network.xalign.values():
        last = module.fusion.residual[-1]
        assert last.norm.weight.abs().sum() == last.norm.bias.abs().sum() == 0
        torch.testing.assert_close(module.fusion.gate_logit.sigmoid(), torch.full_like(module.fusion.gate_logit, 0.05))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_compiled_network_returns_the_same(tiny_network, mode):
    torch._dynamo.reset()
    network = tiny_network(2, aligned_stages=[2], windows=[[2, 2]], n_blocks_per_stage=[1, 1, 1], branch_dropout=0.0)
    compiled = torch.compile(network, backend="eager")
    pair = torch.randn(2, 2, 8, 8)
    for x in (pair, without(pair, [0])) if mode == "eval" else (pair,):
        results = []
        for net in (network, compiled):
            getattr(net, mode)()
            torch.manual_seed(1)
            output = net(x)
            results.append(output.logits if mode == "train" else output)
        torch.testing.assert_close(*results)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branches": ((0,), (0,))}, "must use each of the 2 channels exactly once"),
        ({"branches": ((0,), (2,))}, "must use each of the 2 channels exactly once"),
        ({"windows": [[2, 2, 2]]}, "2 aligned stages need as many windows, not 1"),
        ({"turnable_axes": [[0, 1]]}, "2 aligned stages need as many turnable_axes, not 1"),
        ({"xalign": {"fusion": "sum"}}, "fusion must be"),
        ({"turnable_axes": [[0, 1], []], "xalign": {"selected_rotations": 5}}, "more than the 4 rotations"),
    ],
)
def test_bad_arguments_are_refused(tiny_network, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_network(**arguments)
