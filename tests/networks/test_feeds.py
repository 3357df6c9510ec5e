"""Where the fused maps go: to the skips alone, or on through the encoder."""

import pytest
import torch


@pytest.fixture
def network(tiny_network):
    """Return a function that builds a network whose XAlign modules feed one or the other, with an encoder of a kind."""

    def build(feeds, encoder="residual", **arguments):
        options = {"xalign": {"feeds": feeds}, "branch_dropout": 0.0, "initialize": False, **arguments}
        if encoder == "swin":
            options |= {"swin_blocks_per_stage": [1, 1, 1], "swin_windows": [[2] * 3] * 2, "n_blocks_per_stage": None}
        return tiny_network(residual=encoder != "plain", **options)

    return build


ENCODERS = pytest.mark.parametrize("encoder", ["residual", "plain", "swin"])
BOTH = pytest.mark.parametrize("feeds", ["skips", "encoder"])


@ENCODERS
def test_skips_leave_the_encoder_as_it_is(network, encoder):
    """Main maps of every module are the plain encoder's; with "encoder" those of the second module are not."""
    for feeds, is_plain in (("skips", True), ("encoder", False)):
        net, x = network(feeds, encoder), torch.randn(1, 2, 8, 8, 8)
        stems = torch.cat([net.stems[0](x[:, :1]), net.stems[1](x[:, 1:])])
        plain = net.encoder(stems)
        first, second = net(x).alignments
        torch.testing.assert_close(first.main, plain[1])
        assert torch.allclose(second.main, plain[2], atol=1e-5) == is_plain


@ENCODERS
def test_with_encoder_the_next_stage_takes_the_fused_map(network, encoder):
    net, taken = network("encoder", encoder), []
    net.encoder.stages[2].register_forward_hook(lambda _, inputs, output: taken.append(inputs[0]))
    fused = []
    net.xalign["1"].register_forward_hook(lambda _, inputs, output: fused.append(output[0]))
    net(torch.randn(1, 2, 8, 8, 8))
    assert torch.equal(taken[0], fused[0])


@ENCODERS
@BOTH
def test_gradient_flows(network, encoder, feeds):
    net = network(feeds, encoder, deep_supervision=True)
    output = net(torch.randn(2, 2, 8, 8, 8))
    sum(scale.square().mean() for logits in output.logits for scale in logits).backward()
    for module in net.xalign.values():
        assert module.fusion.gate_logit.grad.abs().min() > 0
        assert module.attention.key_value.weight.grad.abs().sum() > 0
    assert net.stems[0].convs[0].conv.weight.grad.abs().sum() > 0


@BOTH
def test_the_deepest_map_reaches_back_through_the_fusion_before_it_with_encoder_only(network, feeds):
    net = network(feeds)
    net(torch.randn(1, 2, 8, 8, 8)).alignments[1].main.square().sum().backward()
    assert (net.xalign["1"].fusion.gate_logit.grad is not None) == (feeds == "encoder")


@ENCODERS
@BOTH
def test_a_branch_alone_is_predicted_as_in_any_company(network, encoder, feeds):
    """What other samples have does not matter, and a scan without a partner takes the same ways through the network."""
    net = network(feeds, encoder).eval()
    x = torch.randn(3, 2, 8, 8, 8)
    x[0, 1] = x[1, 0] = 0
    together = net(x)
    for sample in range(3):
        torch.testing.assert_close(together[sample], net(x[sample : sample + 1])[0], rtol=1e-3, atol=1e-4)
    other = network({"skips": "encoder", "encoder": "skips"}[feeds], encoder).eval()
    other.load_state_dict(net.state_dict())
    for sample in range(3):
        one = x[sample : sample + 1]
        assert not torch.allclose(net(one), other(one), rtol=1e-3, atol=1e-4)
