"""Branches and channels that are not there: what does not run for them, and what the others make of it."""

import pytest
import torch

CT_BLANK = -1.25


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


def test_absent_branches_cost_nothing(tiny_network):
    network = tiny_network(blank_values=[CT_BLANK, 0.0], branch_dropout=0.0)
    modules = [*network.stems, network.encoder.stages[0], *network.xalign.values(), *network.decoder]
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
    assert calls == [[1], [], [1], [1], [1], [1], []]  # a lone scan is aligned with itself


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
