"""The network of the intra- and inter-modality agents: its outputs, iterations, missing modalities and memory."""

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import nn

from rl_nnunet.agents.rewards import true_label_probability
from rl_nnunet.agents.weights import WEIGHT_PPO, InterAgent, IntraAgent, WeightReport
from rl_nnunet.networks.intra_inter_net import Scene
from rl_nnunet.networks.modality_head import ModalityHead
from rl_nnunet.networks.observer import RunningStandardization
from rl_nnunet.outputs import IntraInterOutput


@pytest.fixture
def frozen_statistics(monkeypatch):
    """Keep the observations' running statistics as they are."""
    monkeypatch.setattr(RunningStandardization, "update", lambda *given: None)


def doubled(logits):
    return nn.Upsample(scale_factor=2, mode="trilinear" if logits.ndim == 5 else "bilinear")(logits)


def finest(fused):
    return fused[0] if isinstance(fused, list) else fused


@pytest.mark.parametrize(("dimension", "residual", "deep_supervision"), [(3, True, True), (2, False, False)])
def test_training_output(tiny, dimension, residual, deep_supervision):
    network = tiny(dimension, residual=residual, deep_supervision=deep_supervision)
    size = (8, 12, 8)[:dimension]
    half = tuple(edge // 2 for edge in size)
    output = network(torch.randn(2, 3, *size))
    assert isinstance(output, IntraInterOutput)
    assert len(output.iterations) == 4
    for iteration in output.iterations:
        assert finest(iteration.fused).shape == (2, 2, *size)
        assert [logits.shape for logits in iteration.modalities] == [(2, 2, *half)] * 3
    first, last = output.iterations[0], output.iterations[-1]
    torch.testing.assert_close(first.decision, finest(first.fused) + doubled(sum(first.modalities)) / 4)
    weights = output.weights["inter"].T.reshape(3, 2, *[1] * (dimension + 1))
    weighted = sum(w * logits for w, logits in zip(weights, last.modalities, strict=True))
    torch.testing.assert_close(last.decision, finest(last.fused) + doubled(weighted) / 4)
    assert output.weights["intra"].shape == (2, 4)
    assert [decision.shape for decision in output.exploration.decisions] == [(2, 2, *size)] * 3
    episodes = output.exploration.episodes
    assert episodes["intra"].actions.shape == (2, 3, 4)
    assert episodes["inter"].actions.shape == (2, 3, 3)
    for name, episode in episodes.items():
        assert episode.observations.shape == (2, 3, network.observer.sizes[name])


def test_exploration_leaves_the_training_of_the_backbone_alone(tiny):
    """Drawn actions change neither outputs nor gradients, and carry none; a share of the steps has them."""
    x, gradients = torch.randn(2, 3, 8, 8), []
    for share in (0.0, 1.0):
        network = tiny(2, exploration_share=share)
        output = network(x)
        sum(iteration.decision.square().sum() for iteration in output.iterations).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
        assert all(p.grad is None for p in network.policies.parameters())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0, atol=0)
    assert all(not decision.requires_grad for decision in output.exploration.decisions)
    assert not torch.allclose(output.exploration.decisions[-1], output.iterations[-1].decision)
    rarely = tiny(2, exploration_share=0.5, iterations=1, agents=["inter"])
    with torch.no_grad():
        assert 6 <= sum(rarely(x).exploration is not None for _ in range(24)) <= 18


def test_exploring_by_the_mean_actions_is_what_the_backbone_is_trained_on(tiny, frozen_statistics):
    network = tiny(2)
    for policy in network.policies.values():
        nn.init.constant_(policy.log_standard_deviation, -20)
    output = network(torch.randn(2, 3, 8, 8))
    for drawn, iteration in zip(output.exploration.decisions, output.iterations[1:], strict=True):
        torch.testing.assert_close(drawn, iteration.decision)


def test_the_weight_of_an_absent_modality_is_no_action(tiny):
    x = torch.randn(2, 3, 8, 8)
    x[1, 1] = 0
    output = tiny(2)(x)
    episode = output.exploration.episodes["inter"]
    assert episode.effective.tolist() == [[True, True, True], [True, False, True]]
    assert episode.actions[1, :, 1].eq(0).all()
    assert episode.actions[:, :, 0].ne(0).all()
    assert output.weights["inter"].isnan().tolist() == (~episode.effective).tolist()
    assert output.exploration.episodes["intra"].effective.all()


def test_gradient_of_recomputed_iterations_is_that_of_plain_ones(tiny, monkeypatch):
    x, gradients = torch.randn(2, 3, 8, 8), []
    for recompute in (True, False):
        if not recompute:
            monkeypatch.setattr("rl_nnunet.networks.iterated_net.checkpoint", lambda call, *a, use_reentrant: call(*a))
        network = tiny(2, trained_iterations="all")
        torch.manual_seed(1)
        output = network(x)
        sum(i.decision.square().sum() + finest(i.fused).sum() for i in output.iterations).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        if name.startswith("policies."):
            assert gradient is None, name  # the agents are trained by PPO alone
        elif gradient is not None:
            torch.testing.assert_close(gradient, gradients[1][name])


def test_the_gradient_passes_through_the_trained_iterations(tiny):
    """The values are the same, whichever are trained."""
    x, outputs = torch.randn(2, 3, 8, 8), {}
    for trained, expected in (("ends", [0, 3]), ("all", [0, 1, 2, 3])):
        outputs[trained] = output = tiny(2, trained_iterations=trained, exploration_share=0.0)(x)
        assert output.trained == expected
        assert [t for t, one in enumerate(output.iterations) if one.decision.requires_grad] == expected
    for one, other in zip(outputs["ends"].iterations, outputs["all"].iterations, strict=True):
        torch.testing.assert_close(one.decision, other.decision)


def test_a_prediction_is_refined_as_often_as_the_plans_say(tiny, frozen_statistics):
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        iterations = tiny(2)(x).iterations
        for count in (0, 1, 3):
            predicted = tiny(2, prediction_iterations=count).eval()(x)
            torch.testing.assert_close(predicted, iterations[count].decision, rtol=1e-4, atol=1e-4)
        longer = tiny(2, iterations=5)(x).iterations[5].decision
        torch.testing.assert_close(tiny(2, prediction_iterations=5).eval()(x), longer, rtol=1e-4, atol=1e-4)


def test_first_iteration_has_all_weights_one(tiny):
    """Iteration 0 is what the network without agents computes, and a later one what given weights make of it."""
    network, plain = tiny(2), tiny(2, agents=[], iterations=0)
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith("policies.")}
    plain.load_state_dict(weights)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(network(x).iterations[0].decision, plain(x).iterations[0].decision)


def test_weights_act_where_the_paper_says(tiny):
    """The inter agent's weights scale what is joined, but not what a modality's own output is computed from."""
    network = tiny(2, modalities=2)
    maps = [[torch.randn(1, size, 4, 4) for size in (4, 6, 8)] for _ in range(2)]
    inter = torch.tensor([[0.5, 2.0]])
    fused = network._fuse(maps, 1, inter, [[0], [0]])
    expected = network.fusions[1](torch.cat((0.5 * maps[0][1], 2.0 * maps[1][1]), 1))
    torch.testing.assert_close(fused, expected)
    x = torch.randn(1, 2, 8, 8)
    shallow = [stem(x[:, [m]]) for m, stem in enumerate(network.stems)]
    present, intra, nothing = torch.ones(1, 2, dtype=torch.bool), torch.rand(1, 4) * 2, torch.zeros(1, 0)
    scene = Scene(shallow, [[0], [0]], present, nothing, nothing)
    outputs = [network._iterate(scene, {"intra": intra, "inter": w}, True)[0] for w in (inter, torch.ones(1, 2))]
    torch.testing.assert_close(outputs[0].modalities, outputs[1].modalities)
    assert not torch.allclose(outputs[0].fused, outputs[1].fused)
    scaled = scene._replace(shallow=[stem * intra.view(1, 4, 1, 1) for stem in shallow])
    plain = network._iterate(scaled, {"intra": torch.ones(1, 4), "inter": inter}, True)[0]
    torch.testing.assert_close(outputs[0].decision, plain.decision)


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_prediction_is_repeatable_and_the_sum_of_the_last_outputs(tiny, deep_supervision, frozen_statistics):
    network = tiny(2, deep_supervision=deep_supervision).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        first, second = network(x), network(x)
        trained = network.train()(x).iterations[-1]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(finest(first), trained.decision, rtol=1e-4, atol=1e-4)
    if deep_supervision:
        torch.testing.assert_close(first[1], trained.fused[1], rtol=1e-4, atol=1e-4)


def test_an_absent_modality_is_left_out(tiny):
    network = tiny(2, blank_values=[0.0, -1.5, 0.0]).eval()
    x = torch.randn(2, 3, 8, 8)
    x[1, 1] = -1.5
    with torch.no_grad():
        mixed = network(x)
        alone = network(x[1:])
        torch.testing.assert_close(mixed[1:], alone, rtol=1e-4, atol=1e-5)
        # What the blank value is does not matter, and neither does the modality's encoder.
        for parameter in (*network.encoders[1].parameters(), *network.stems[1].parameters()):
            parameter.mul_(3)
        network.encoders[1].register_forward_hook(lambda *_: pytest.fail("an absent modality was encoded"))
        torch.testing.assert_close(network(x[1:]), alone)


def test_gates_get_the_gradient_that_agents_do_not(tiny):
    network = tiny(2, learning="gradient", iterations=1)
    output = network(torch.randn(2, 3, 8, 8))
    assert output.exploration is None
    output.iterations[-1].decision.square().sum().backward()
    for policy in network.policies.values():
        assert policy.mean.weight.grad.abs().sum() > 0


def test_what_shows_nothing_has_no_vote_in_training(tiny):
    """Constant beside a modality that varies: outside the field of view. Constant everywhere: air, which is learnt."""
    x = torch.randn(2, 3, 8, 8)
    x[0, 1] = -0.7
    x[1] = -0.7
    output = tiny(2).train()(x)
    assert output.samples == [[0, 1], [1], [0, 1]]


def test_head_adds_upsampled_projections():
    head = ModalityHead(nn.Conv2d, [2, 3], 2)
    fine, coarse = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 2, 2)
    up = nn.functional.interpolate(head.seg_layers[1](coarse), size=(4, 4), mode="bilinear")
    torch.testing.assert_close(head([fine, coarse]), head.seg_layers[0](fine) + up)


def test_an_overflow_reaches_the_loss_and_not_the_agents(tiny):
    """Mixed precision: nnU-Net skips a step whose gradient is not finite, and the agents skip its transitions."""
    network = tiny(2)
    with torch.no_grad():
        network.fusions[-1].weight.fill_(torch.inf)
    output = network(torch.randn(1, 3, 8, 8))
    assert output.iterations[-1].decision.isnan().any()
    policies, cpu, target = network.policies, torch.device("cpu"), torch.randint(0, 2, (1, 1, 8, 8))
    gains = torch.stack([true_label_probability(d, target) for d in output.exploration.decisions], 1)
    intra = IntraAgent(policies["intra"], WEIGHT_PPO, cpu)
    for agent in (intra, InterAgent("abc", policies["inter"], WEIGHT_PPO, cpu)):
        agent.learn(WeightReport({}, 0.0, 0.0, output.weights, output.exploration.episodes, gains))
        assert len(agent.ppo) == 0


def test_pretrained_weights_of_other_classes(tiny, tmp_path):
    """nnU-Net leaves out the layers that depend on the classes; ours go by the same name."""
    pretrained, network = tiny(2, num_classes=4), tiny(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save({"network_weights": {k: v + 1 for k, v in pretrained.state_dict().items()}}, tmp_path / "weights.pth")
    load_pretrained_weights(network, str(tmp_path / "weights.pth"))
    for name, value in network.state_dict().items():
        expected = before[name] if ".seg_layers." in name else pretrained.state_dict()[name] + 1
        assert torch.equal(value, expected), name


def test_ablations(tiny):
    without_inter = tiny(2, agents=["intra"])(torch.randn(1, 3, 8, 8))
    assert set(without_inter.exploration.episodes) == {"intra"}
    baseline = tiny(2, agents=[], iterations=0)(torch.randn(1, 3, 8, 8))
    assert len(baseline.iterations) == 1
    assert baseline.exploration is None


@pytest.mark.parametrize(
    "arguments", [{"agents": ["other"]}, {"agents": []}, {"iterations": 0}, {"trained_iterations": "last"}]
)
def test_contradictions_are_refused(tiny, arguments):
    with pytest.raises(ValueError, match="iterations"):
        tiny(2, **arguments)


def test_training_keeps_one_iteration_only(tiny):
    """The tensors that autograd keeps grow by little with every iteration."""
    kept = {}
    for iterations in (1, 3):
        network, sizes = tiny(2, iterations=iterations, trained_iterations="all"), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            network(torch.randn(1, 3, 32, 32))
        kept[iterations] = sum(sizes)
    assert kept[3] < 1.6 * kept[1]


def test_memory_estimate_counts_encoders(tiny):
    one, three = (tiny(3, modalities=m).compute_conv_feature_map_size((16, 16, 16)) for m in (1, 3))
    encoder = tiny(3, modalities=1).encoders[0].compute_conv_feature_map_size((16, 16, 16))
    assert three - one > 2 * encoder
