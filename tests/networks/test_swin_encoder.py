"""The Swin encoder takes the place of nnU-Net's: same skips, same questions answered, any patch."""

import pytest
import torch
from torch import nn

from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.networks.swin_encoder import SwinEncoder

FEATURES = [8, 16, 24]


def options(dimension):
    return {
        "n_stages": 3,
        "features_per_stage": FEATURES,
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[dimension],
        "conv_bias": True,
        "norm_op": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimension],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


# The first patch is not cubic and pools the first axis once only; its windows do not divide 6, 10 and 5.
TOPOLOGIES = {
    "3D": {
        "patch": (6, 12, 20),
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "windows": [[2, 4, 4], [3, 3, 4]],
    },
    "2D": {
        "patch": (12, 20),
        "kernel_sizes": [[3, 3]] * 3,
        "strides": [[1, 1], [2, 2], [2, 1]],
        "windows": [[4, 4], [3, 4]],
    },
}
SHAPES = {"3D": [(6, 12, 20), (6, 6, 10), (3, 3, 5)], "2D": [(12, 20), (6, 10), (3, 10)]}


def encoder(name, **changes):
    topology = {key: value for key, value in TOPOLOGIES[name].items() if key != "patch"}
    arguments = {**options(int(name[0])), **topology, "input_channels": 4, "blocks_per_stage": [1, 2, 3], **changes}
    torch.manual_seed(0)
    return SwinEncoder(**arguments)


def network(**changes):
    topology = {key: value for key, value in TOPOLOGIES["3D"].items() if key not in ("patch", "windows")}
    arguments = {
        **options(3), **topology, "input_channels": 2, "num_classes": 3, "n_conv_per_stage_decoder": [1, 1],
        "deep_supervision": True, "branches": [[0], [1]], "branch_names": ["CT", "MRI"], "blank_values": [0.0, 0.0],
        "aligned_stages": [2], "windows": [[2, 2, 2]], "branch_dropout": 0.0, "swin_blocks_per_stage": [1, 2, 2],
        "swin_windows": TOPOLOGIES["3D"]["windows"], **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    net = RLU2Net(**arguments)
    net.apply(net.initialize)
    return net


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_skips_have_the_shapes_of_the_topology(name):
    swin = encoder(name)
    skips = swin(torch.randn(2, 4, *TOPOLOGIES[name]["patch"]))
    assert [tuple(skip.shape) for skip in skips] == [
        (2, features, *shape) for features, shape in zip(FEATURES, SHAPES[name], strict=True)
    ]
    assert all(skip.is_contiguous() for skip in skips)


def test_every_second_block_shifts_its_windows():
    blocks = encoder("3D").stages[2].blocks
    assert [block.attn.shift_size for block in blocks] == [[0, 0, 0], [1, 1, 2], [0, 0, 0]]
    assert [block.attn.num_heads for block in blocks] == [3] * 3  # 24 channels, 32 do not divide them: heads of 8


def test_every_parameter_learns():
    swin = encoder("3D")
    sum(skip.square().mean() for skip in swin(torch.randn(1, 4, *TOPOLOGIES["3D"]["patch"]))).backward()
    # A normalization follows the biases of the convolutions and takes them away again.
    without = {
        name for name, p in swin.named_parameters() if (p.grad is None or not p.grad.any()) and "conv.bias" not in name
    }
    assert without == set()


def test_samples_do_not_see_each_other():
    swin = encoder("3D").eval()
    x = torch.randn(3, 4, *TOPOLOGIES["3D"]["patch"])
    together, alone = swin(x)[-1][1:2], swin(x[1:2])[-1]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_memory_is_that_of_the_layers():
    """Compare the count with what the convolutions and linear layers put out, and with the attention's size."""
    swin, patch = encoder("3D"), TOPOLOGIES["3D"]["patch"]
    counted = []
    for module in swin.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            module.register_forward_hook(lambda _, __, output: counted.append(output.numel()))
        if type(module).__name__ == "ShiftedWindowAttention3d":
            # The query, key and value, and the projection are applied by their weights, not by their modules.
            module.register_forward_hook(
                lambda attention, _, output: counted.append(
                    4 * output.numel()
                    + output[..., 0].numel() * attention.num_heads * torch.tensor(attention.window_size).prod().item()
                )
            )
    swin(torch.randn(1, 4, *patch))
    assert swin.compute_conv_feature_map_size(patch) == sum(counted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": [[2, 4, 4]]}, "2 windows"),
        ({"blocks_per_stage": [1, 2]}, "3 stages need as many"),
        ({"blocks_per_stage": [1, 0, 2]}, "every stage needs a block"),
        ({"conv_op": nn.Conv1d, "strides": [1, 2, 2], "kernel_sizes": [3] * 3}, "2D and 3D"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        encoder("3D", **changes)


@pytest.mark.parametrize("changes", [{"n_blocks_per_stage": [1, 1, 1]}, {"swin_blocks_per_stage": None}])
def test_network_takes_exactly_one_encoder(changes):
    with pytest.raises(ValueError, match="exactly one"):
        network(**changes)


def test_network_trains_and_predicts_with_it():
    net = network()
    assert isinstance(net.encoder, SwinEncoder)
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    before = {name: p.detach().clone() for name, p in net.encoder.named_parameters()}
    x = torch.randn(2, 2, *TOPOLOGIES["3D"]["patch"])
    output = net(x)
    assert [tuple(scale.shape[2:]) for scale in output.logits[0]] == SHAPES["3D"][:2]
    assert len(output.alignments) == 1
    sum(scale.square().mean() for logits in output.logits for scale in logits).backward()
    optimizer.step()
    moved = [name for name, p in net.encoder.named_parameters() if not torch.equal(p, before[name])]
    assert any("attn.qkv.weight" in name for name in moved)

    net.eval()
    net.decoder.deep_supervision = False
    x[:, 1] = 0  # CT only
    with torch.no_grad():
        logits = net(x)
        assert logits.shape == (2, 3, *TOPOLOGIES["3D"]["patch"])
        assert torch.equal(logits, net(x))
