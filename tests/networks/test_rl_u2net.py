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


def count_calls(modules):
    """Record the number of rows in every call of some modules."""
    calls = [[] for _ in modules]
    for module, rows in zip(modules, calls, strict=True):
        module.register_forward_hook(
            lambda _, inputs, __, rows=rows: rows.append(
                len(inputs[0][0] if isinstance(inputs[0], list) else inputs[0])
            )
        )
    return calls


def without(x, channels, value=0.0):
    x = x.clone()
    x[:, channels] = value
    return x


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


def test_absent_branches_cost_nothing(tiny_network):
    network = tiny_network(blank_values=[CT_BLANK, 0.0], branch_dropout=0.0)
    modules = [*network.stems, network.encoder, *network.xalign.values(), *network.decoder]
    calls = count_calls(modules)
    x = torch.randn(3, 2, 8, 8, 8)
    x[0, 1] = 0  # CT only
    x[1, 0] = CT_BLANK  # MR only
    output = network(x)
    assert output.samples == [[0, 2], [1, 2]]
    assert output.link_samples == [2, 2]
    assert [logits.shape[0] for logits in output.logits] == [2, 2]
    assert calls == [[2], [2], [4], [4], [4], [2], [2]]

    for rows in calls:
        rows.clear()
    output = network(x[:1])
    assert output.samples == [[0], []]
    assert output.logits[1] is None
    assert output.alignments == []
    assert calls == [[1], [], [1], [], [], [1], []]


@pytest.mark.parametrize(
    ("ct", "mri", "expected"),
    [
        ("image", "image", [True, True]),
        ("zero", "image", [False, True]),
        ("blank", "image", [False, True]),
        ("blank up to rounding", "image", [False, True]),
        ("blank beside padding", "image", [False, True]),
        ("another constant", "image", [True, True]),
        ("one voxel", "zero", [True, False]),
        ("image", "zero", [True, False]),
        ("image", "blank", [True, True]),  # CT's value means nothing in MRI
        ("blank", "zero", [True, True]),  # nothing there: all branches run, as nnU-Net would
        ("zero", "zero", [True, True]),
    ],
)
def test_blank_branches_are_told(tiny_network, ct, mri, expected):
    network = tiny_network(blank_values=[CT_BLANK, 0.0])
    contents = {
        "image": torch.randn(8, 8, 8),
        "zero": torch.zeros(8, 8, 8),
        "blank": torch.full((8, 8, 8), CT_BLANK),
        "blank up to rounding": CT_BLANK + 1e-6 * torch.randn(8, 8, 8),
        "blank beside padding": torch.full((8, 8, 8), CT_BLANK),
        "another constant": torch.full((8, 8, 8), 0.5),
        "one voxel": torch.full((8, 8, 8), CT_BLANK),
    }
    contents["blank beside padding"][:3] = 0
    contents["one voxel"][4, 4, 4] += 0.01
    _, samples = network.samples_per_branch(torch.stack((contents[ct], contents[mri]))[None])
    assert [indices == [0] for indices in samples] == expected


def test_a_branch_is_there_if_one_of_its_channels_is(tiny_network):
    network = tiny_network(branches=((0, 2), (1,)))
    x = torch.zeros(1, 3, 8, 8, 8)
    x[:, 2] = torch.randn(8, 8, 8)
    assert network.samples_per_branch(x)[1] == [[0], []]


@pytest.mark.parametrize(("constant", "channels"), [(-3.0, [0]), (0.5, [0, 1]), (2.0, [2]), (-3.0, [1])])
def test_prediction_of_a_constant_channel_is_that_of_a_blank_one(tiny_network, constant, channels):
    """Whole branches, and one of a branch's two channels."""
    network = tiny_network(
        branches=((0, 1), (2,)), blank_values=[CT_BLANK, CT_BLANK, 0.0], deep_supervision=False, initialize=False
    ).eval()
    filled = torch.randn(2, 3, 8, 8, 8)
    filled[0, channels] = constant
    filled[:, :, :2] = 0  # padding
    blank = filled.clone()
    blank[0, channels] = network.blank_values[channels].view(-1, 1, 1, 1)
    with torch.no_grad():
        predictions = network(filled), network(blank)
    torch.testing.assert_close(*predictions, rtol=0, atol=0)


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_prediction_is_the_mean_of_the_present_branches(tiny_network, deep_supervision):
    network = tiny_network(branches=((0,), (1,), (2,)), deep_supervision=deep_supervision, initialize=False).eval()
    x = torch.randn(4, 3, 8, 8, 8)
    x[1, 0] = 0
    x[2, 1:] = 0
    branches = network.forward_branches(x)
    predicted = network(x)
    if not deep_supervision:
        predicted = [predicted]
        branches = branches._replace(logits=[[logits] for logits in branches.logits])
    for scale, mean in enumerate(predicted):
        for sample in range(4):
            own = [
                logits[scale][indices.index(sample)]
                for logits, indices in zip(branches.logits, branches.samples, strict=True)
                if sample in indices
            ]
            assert len(own) == (3, 2, 1, 3)[sample]
            torch.testing.assert_close(mean[sample], sum(own) / len(own))


def test_samples_of_a_mixed_batch_do_not_mix(tiny_network):
    network = tiny_network(deep_supervision=False, initialize=False).eval()
    x = torch.randn(3, 2, 8, 8, 8)
    x[0, 1] = 0
    x[1, 0] = 0
    together = network(x)
    torch.testing.assert_close(together, torch.cat([network(sample[None]) for sample in x]), atol=1e-4, rtol=1e-4)


def test_a_single_branch_does_not_see_how_the_other_is_blank(tiny_network):
    network = tiny_network(blank_values=[CT_BLANK, 0.0], deep_supervision=False, initialize=False).eval()
    x = torch.randn(1, 2, 8, 8, 8)
    expected = network(without(x, [0]))
    assert torch.equal(network(without(x, [0], CT_BLANK)), expected)
    padded = without(x, [0], CT_BLANK)
    padded[:, 0, :2] = 0
    assert torch.equal(network(padded), expected)
    assert not torch.allclose(network(x), expected)


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
        links, samples = network._links([[0, 1], [0, 1]], torch.device("cpu"))
        assert len(links.main) == len(samples) == 2 * len(set(samples))  # both directions or none
        linked += len(set(samples))
    assert low <= 400 - linked <= high
    network.eval()
    assert len(network._links([[0, 1], [0, 1]], torch.device("cpu"))[1]) == 4


def test_links_join_rows_of_one_sample(tiny_network):
    network = tiny_network(branches=((0,), (1,), (2,)), branch_dropout=0.0)
    samples = [[0, 2], [1, 2], [0, 1, 2]]
    rows = [(sample, branch) for branch, indices in enumerate(samples) for sample in indices]
    links, link_samples = network._links(samples, torch.device("cpu"))
    assert len(link_samples) == 2 + 2 + 6
    for main, auxiliary, branches, sample in zip(*links, link_samples, strict=True):
        assert rows[main] == (sample, branches[0])
        assert rows[auxiliary] == (sample, branches[1])
        assert branches[0] != branches[1]
    assert len({(a.item(), b.item()) for a, b in zip(links.main, links.auxiliary, strict=True)}) == 10


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
    """What nnU-Net counts for encoder and decoders, and the maps of stems and links as they come out."""
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
    # Queries, keys, values, attended and projected; the rotated maps; the fused map and the block's two.
    maps = (5 if attention else 0) + selected + 3
    xalign = sum(maps * alignment.main.numel() for alignment in alignments)
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
        last = module.fusion.block[-1]
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
        ({"xalign": {"fusion": "sum"}}, "fusion must be"),
    ],
)
def test_bad_arguments_are_refused(tiny_network, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_network(**arguments)


def test_channel_dropout_blanks_one_channel_of_a_branch_with_several(tiny_network):
    network = tiny_network(
        2, branches=((0, 1), (2,)), blank_values=[0.0, -1.5, 0.0], channel_dropout=1.0, branch_dropout=0.0
    )
    seen = []
    network.stems[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(40, 3, 8, 8)
    network.train()(x)
    network.eval()(x)
    blank = torch.stack([(seen[0][:, 0] == 0).all((1, 2)), (seen[0][:, 1] == -1.5).all((1, 2))], 1)
    assert blank.sum(1).tolist() == [1] * 40
    assert blank.any(0).all()
    kept = ~blank
    assert torch.equal(seen[0][kept], x[:, :2][kept])
    assert torch.equal(seen[1], x[:, :2])  # in evaluation all is there


def test_channel_dropout_leaves_an_absent_channel_out_of_account(tiny_network):
    """Of a branch with one channel left, none is withheld."""
    network = tiny_network(2, branches=((0, 1), (2,)), channel_dropout=1.0, branch_dropout=0.0).train()
    x = torch.randn(40, 3, 8, 8)
    x[:, 1] = 0
    assert network(x).samples == [list(range(40))] * 2
