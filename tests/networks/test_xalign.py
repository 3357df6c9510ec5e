"""One alignment module against its formula, eq. 6-7 of RL-U2Net."""

from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional

from rl_nnunet.errors import InputError
from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.networks.xalign import FORM, ResidualFusion, XAlign, XAlignConfig, make_links
from rl_nnunet.policies.rotations import rotate, turning

CHANNELS = 4


def block_options(dimension):
    return {
        "conv_op": (nn.Conv2d, nn.Conv3d)[dimension - 2],
        "conv_bias": True,
        "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
        "norm_op_kwargs": {"affine": True, "eps": 1e-5},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {},
    }


def xalign(dimension=3, branches=2, turnable_axes=None, **config):
    torch.manual_seed(0)
    return XAlign(
        CHANNELS,
        dimension,
        branches,
        (2,) * dimension,
        XAlignConfig(**config),
        block_options(dimension),
        (3,) * dimension,
        turnable_axes,
    )


def links(*links, rows=None):
    """Links from (main row, auxiliary row, main branch, auxiliary branch), of all rows that they name or of more."""
    return make_links(links, rows or 1 + max(link[0] for link in links), torch.device("cpu"))


PAIR = links((0, 1, 0, 1), (1, 0, 1, 0))


def turned(x, index):
    """The exact rotation of a map (C, *spatial), stretched to its grid."""
    mode = "bilinear" if x.ndim == 3 else "trilinear"
    return functional.interpolate(rotate(x[None], index, x.ndim - 1), x.shape[1:], mode=mode)[0]


def expected_aligned(module, features, one_links, rotations):
    """The mean over the drawn rotations of the turned answer of the attention, per link."""
    cross = features[one_links.auxiliary]
    if module.attention is not None:
        cross = module.attention(features[one_links.main], cross)
    return torch.stack(
        [sum(turned(x, r) for r in drawn) / len(drawn) for x, drawn in zip(cross, rotations.tolist(), strict=True)]
    )


@pytest.mark.parametrize(("dimension", "spatial"), [(2, (4, 4)), (2, (4, 6)), (3, (4, 4, 4)), (3, (2, 4, 5))])
@pytest.mark.parametrize("selected", [1, 3])
@pytest.mark.parametrize("attention", [True, False])
def test_aligned_map_is_the_mean_over_the_drawn_rotations(dimension, spatial, selected, attention):
    module = xalign(dimension, selected_rotations=selected, cross_modal_attention=attention)
    features = torch.randn(2, CHANNELS, *spatial)
    _, alignment = module(features, PAIR)
    assert alignment.rotations.shape == (2, selected)
    assert all(len(set(drawn)) == selected for drawn in alignment.rotations.tolist())
    torch.testing.assert_close(alignment.aligned, expected_aligned(module, features, PAIR, alignment.rotations))
    assert torch.equal(alignment.main, features)


@pytest.mark.parametrize("config", [{}, {"initial_gate": 0.2}, {"fusion": "fixed", "fusion_weight": 0.4}])
def test_after_initialization_only_the_gate_acts(config):
    module = xalign(**config).apply(RLU2Net.initialize)
    features = torch.randn(2, CHANNELS, 4, 4, 4)
    fused, alignment = module(features, PAIR)
    weight = {**asdict(XAlignConfig()), **config}["fusion_weight" if "fusion" in config else "initial_gate"]
    torch.testing.assert_close(fused, weight * alignment.aligned + (1 - weight) * features)


@pytest.mark.parametrize("config", [{}, {"fusion": "fixed"}])
def test_fusion_is_equation_7_and_a_residual_block(config):
    torch.manual_seed(0)
    fusion = ResidualFusion(CHANNELS, XAlignConfig(**config), block_options(2), (3, 3))
    main, aligned = torch.randn(2, 3, CHANNELS, 4, 4)
    if not config:
        nn.init.normal_(fusion.gate_logit)
        gate = torch.sigmoid(fusion.gate_logit)[None, :, None, None]
    else:
        gate = XAlignConfig().fusion_weight
        assert not any("gate" in name for name, _ in fusion.named_parameters())
    fused = gate * aligned + (1 - gate) * main
    torch.testing.assert_close(fusion(main, aligned), fused + fusion.residual(torch.cat((main, aligned), 1)))


def test_gates_are_learnt():
    module = xalign()
    features = torch.randn(2, CHANNELS, 4, 4, 4)
    module(features, PAIR)[0].square().sum().backward()
    assert module.fusion.gate_logit.grad.abs().min() > 0
    assert module.attention.query.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in module.policy.parameters())


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("rows", [((1, 3, 0, 1), (3, 1, 1, 0)), ()])
def test_a_row_without_a_link_is_its_own_companion(attention, rows):
    module = xalign(cross_modal_attention=attention)
    features = torch.randn(4, CHANNELS, 4, 4, 4)
    before = features.clone()
    fused, alignment = module(features, links(*rows, rows=4))
    lone = [row for row in range(4) if row not in [link[0] for link in rows]]
    own = features[lone] if module.attention is None else module.attention(features[lone], features[lone])
    torch.testing.assert_close(fused[lone], module.fusion(features[lone], own))
    assert (alignment is None) == (not rows)
    if rows:
        torch.testing.assert_close(fused[[1, 3]], module.fusion(features[[1, 3]], alignment.aligned))
    assert torch.equal(features, before)


def test_several_auxiliary_branches_are_averaged():
    module = xalign(branches=3)
    features = torch.randn(3, CHANNELS, 4, 4, 4)
    all_links = links(*((m, a, m, a) for m in range(3) for a in range(3) if m != a))
    fused, alignment = module(features, all_links)
    mean = alignment.aligned.view(3, 2, CHANNELS, 4, 4, 4).mean(1)
    torch.testing.assert_close(fused, module.fusion(features, mean))


def test_links_may_come_in_any_order():
    """The rows of the mean over auxiliaries belong to their main rows, however the links are sorted."""
    module = xalign(branches=3, cross_modal_attention=False).eval()
    features = torch.randn(3, CHANNELS, 4, 4, 4)
    rows = [(m, a, m, a) for m in range(3) for a in range(3) if m != a]
    torch.testing.assert_close(module(features, links(*rows))[0], module(features, links(*rows[::-1]))[0])
    torch.testing.assert_close(module(features, links(*rows[::2]))[0], module(features, links(*rows[::2][::-1]))[0])


def test_evaluation_takes_the_most_probable_rotations():
    module = xalign(selected_rotations=2).eval()
    features = torch.randn(2, CHANNELS, 4, 4, 4)
    first, alignment = module(features, PAIR)
    assert torch.equal(alignment.rotations, alignment.probabilities.topk(2, dim=1).indices)
    for seed in range(3):
        torch.manual_seed(seed)
        assert torch.equal(module(features, PAIR)[0], first)


def test_training_draws():
    module = xalign()
    features = torch.randn(2, CHANNELS, 4, 4, 4)
    assert len({tuple(module(features, PAIR)[1].rotations.flatten().tolist()) for _ in range(20)}) > 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fusion", "mean", "fusion must be"),
        ("fusion_weight", 0.5, "fusion_weight must lie"),
        ("fusion_weight", 0.0, "fusion_weight must lie"),
        ("initial_gate", 0.0, "initial_gate must lie"),
        ("initial_gate", 1.0, "initial_gate must lie"),
        ("selected_rotations", 0, "selected_rotations must be at least 1"),
        ("feeds", "decoder", "feeds must be"),
    ],
)
def test_bad_configuration_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        XAlignConfig(**{field: value})


@pytest.mark.parametrize(("axes", "dimension", "left"), [((1, 2), 3, 8), ((), 3, 4), ((), 2, 2)])
def test_only_rotations_of_the_turnable_axes_are_drawn(axes, dimension, left):
    module = xalign(dimension, turnable_axes=axes, selected_rotations=left)
    _, alignment = module(torch.randn(2, CHANNELS, *(2, 4, 4)[:dimension]), PAIR)
    assert [sorted(drawn) for drawn in alignment.rotations.tolist()] == [turning(axes, dimension)] * 2
    with pytest.raises(ValueError, match=f"more than the {left} rotations"):
        xalign(dimension, turnable_axes=axes, selected_rotations=left + 1)


def test_links_know_their_main_rows():
    made = links((3, 0, 1, 0), (1, 2, 0, 1), (3, 2, 1, 2), rows=5)
    assert made.main.tolist() == [3, 1, 3]
    assert made.auxiliary.tolist() == [0, 2, 2]
    assert made.branches.tolist() == [[1, 0], [0, 1], [1, 2]]
    assert made.fused_rows.tolist() == [3, 1]
    assert made.fused_rows[made.position].tolist() == made.main.tolist()
    assert made.counts.tolist() == [2, 1]
    assert made.lone.tolist() == [0, 2, 4]


@pytest.mark.parametrize("change", ["no form", "another form", "other names"])
def test_weights_of_another_version_are_refused(change):
    weights = xalign().state_dict()
    xalign().load_state_dict(weights)
    if change == "other names":
        weights = {name.replace("fusion.residual", "fusion.block"): value for name, value in weights.items()}
    else:
        del weights["form"]
        weights |= {} if change == "no form" else {"form": torch.tensor(FORM - 1)}
    with pytest.raises(InputError, match="another version of rl_nnunet"):
        xalign().load_state_dict(weights)


def test_maps_stay_in_half_precision():
    """A gate in float32 made float32 maps of both."""
    module = xalign(initial_gate=0.2)
    features = torch.randn(2, CHANNELS, 4, 4, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused, alignment = module(features, PAIR)
        assert module.fusion(features, alignment.aligned).dtype == torch.bfloat16
    assert fused.dtype == alignment.aligned.dtype == torch.bfloat16


def test_bad_policy_is_refused():
    with pytest.raises(ValueError, match="policy must be"):
        xalign(policy="best")
