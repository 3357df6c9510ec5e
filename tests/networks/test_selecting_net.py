"""A network that leaves out a modality: equal to one that never had it, and trained with all of them."""

import pytest
import torch

from rl_nnunet.errors import InputError
from rl_nnunet.networks.observer import RunningStandardization, outcome_statistics


@pytest.fixture
def selecting(tiny, monkeypatch):
    """A selecting network in 2D whose running statistics do not move, and the same one without an agent."""
    monkeypatch.setattr(RunningStandardization, "update", lambda *given: None)
    network = tiny(2, agents=["selection"], iterations=0)
    plain = tiny(2, agents=[], iterations=0)
    shared = {k: v for k, v in network.state_dict().items() if not k.startswith(("policies.", "outcomes."))}
    plain.load_state_dict(shared)
    return network, plain


def prefer(network, action):
    last = network.policies["selection"].layers[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = 5.0 * torch.eye(4)[action]


def without(x, modality):
    x = x.clone()
    x[:, modality] = 0
    return x


@pytest.mark.parametrize("action", [0, 1, 2, 3])
def test_a_modality_that_is_left_out_might_as_well_be_missing(selecting, action):
    network, plain = (net.eval() for net in selecting)
    prefer(network, action)
    x = torch.randn(2, 3, 8, 8)
    expected = x if action == 3 else without(x, action)
    torch.testing.assert_close(network(x)[0], plain(expected)[0])


def test_training_decides_with_all_modalities_and_tries_without_each(selecting):
    network, plain = selecting
    x = torch.randn(2, 3, 8, 8)
    x[1, 0] = 0
    prefer(network, 1)
    output, expected = network(x), plain(x)
    torch.testing.assert_close(output.iterations[0].decision, expected.iterations[0].decision)
    assert output.trained == [0]
    assert output.exploration is None
    selection = output.selection
    assert selection.present.tolist() == [[True, True, True], [False, True, True]]
    assert selection.observations.shape == (2, network.observer.sizes["inter"] + 7)
    assert not any(decision.requires_grad for decision in selection.decisions)
    for modality, decision in enumerate(selection.decisions):
        torch.testing.assert_close(decision, plain(without(x, modality)).iterations[0].decision)


def test_each_sample_and_scale_is_of_its_own_action(selecting, monkeypatch):
    network, plain = (net.eval() for net in selecting)
    actions = torch.tensor([2, 3, 0])
    kept = actions[:, None] != torch.arange(3)
    monkeypatch.setattr(network.policies["selection"], "forward", lambda seen, present: kept & present)
    x = torch.randn(3, 3, 8, 8)
    expected = x.clone()
    expected[~kept] = 0
    assert len(network(x)) == len(plain(expected)) > 1
    for found, scale in zip(network(x), plain(expected), strict=True):
        torch.testing.assert_close(found, scale)
    network.decoder.deep_supervision = plain.decoder.deep_supervision = False
    torch.testing.assert_close(network(x), plain(expected))


@pytest.mark.parametrize("is_training", [False, True])
def test_the_policy_sees_what_comes_of_its_actions(selecting, is_training):
    network, plain = (net.train(is_training) for net in selecting)
    x, seen = torch.randn(2, 3, 8, 8), []
    x[1, 0] = 0
    if is_training:
        seen.append(network(x).selection.observations)
    else:
        network.policies["selection"].register_forward_hook(lambda policy, inputs, kept: seen.append(inputs[0]))
        network(x)
    plain.train()
    decisions = [plain(one).iterations[0].decision for one in (*(without(x, m) for m in range(3)), x)]
    present = torch.tensor([[True, True, True], [False, True, True]])
    expected = outcome_statistics(decisions, present, regions=False).nan_to_num(0)
    torch.testing.assert_close(seen[0][:, -7:], expected)


def test_weights_of_a_policy_that_saw_something_else_are_refused(selecting):
    network, _ = selecting
    weights = network.state_dict()
    weights["policies.selection.layers.0.weight"] = weights["policies.selection.layers.0.weight"][:, :-7]
    with pytest.raises(InputError, match="another version of rl_nnunet"):
        network.load_state_dict(weights)


def test_the_loss_trains_all_but_the_policy(selecting):
    network, _ = selecting
    network(torch.randn(2, 3, 8, 8)).iterations[0].decision.square().sum().backward()
    untrained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is None}
    assert "policies" in untrained
    assert untrained <= {"policies", "decoder"}  # the segmentation layers of coarser scales are not in the decision


def test_it_is_tried_in_a_share_of_the_steps(tiny):
    network = tiny(2, agents=["selection"], iterations=0, exploration_share=0.0)
    assert network(torch.randn(1, 3, 8, 8)).selection is None


@pytest.mark.parametrize(("agents", "iterations"), [(["selection"], 1), (["selection", "inter"], 1)])
def test_it_refines_nothing_and_works_alone(tiny, agents, iterations):
    with pytest.raises(ValueError, match="selection alone, with 0 iterations"):
        tiny(2, agents=agents, iterations=iterations)
