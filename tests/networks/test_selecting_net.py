"""A network that leaves out a modality: equal to one that never had it, and trained with all of them."""

import pytest
import torch

from rl_nnunet.networks.observer import RunningStandardization


@pytest.fixture
def selecting(tiny, monkeypatch):
    """A selecting network in 2D whose running statistics do not move, and the same one without an agent."""
    monkeypatch.setattr(RunningStandardization, "update", lambda *given: None)
    network = tiny(2, agents=["selection"], iterations=0)
    plain = tiny(2, agents=[], iterations=0)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("policies.")})
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
    assert selection.observations.shape == (2, network.observer.sizes["inter"])
    assert not any(decision.requires_grad for decision in selection.decisions)
    for modality, decision in enumerate(selection.decisions):
        torch.testing.assert_close(decision, plain(without(x, modality)).iterations[0].decision)


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
