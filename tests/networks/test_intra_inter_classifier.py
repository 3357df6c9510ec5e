"""The classifier with agents: its outputs and their sum, absent modalities, one modality, what the agents learn."""

import pydoc
from dataclasses import replace

import pytest
import torch

from rl_nnunet.agents.rewards import true_label_probability
from rl_nnunet.agents.weights import WEIGHT_PPO, InterAgent, WeightReport
from rl_nnunet.losses.classification_loss import ClassificationLoss
from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.networks.intra_inter_classifier import IntraInterClassifier
from rl_nnunet.networks.observer import output_statistics
from rl_nnunet.outputs import IntraInterOutput
from rl_nnunet.plans.classification import classifier_arguments


@pytest.fixture
def tiny():
    """Return a function that builds a network of 8 voxels a side; keyword arguments replace the defaults below."""

    def build(dimension=2, modalities=3, classes=3, **arguments):
        torch.manual_seed(0)
        plan = classifier_arguments(dimension, 8, 4)
        for name in ("conv_op", "norm_op", "nonlin"):
            plan[name] = pydoc.locate(plan[name])
        names = [f"modality_{i}" for i in range(modalities)]
        defaults = {"hidden_size": 8, "exploration_share": 1.0, "blank_values": [0.0] * modalities}
        network = IntraInterClassifier(
            modalities,
            2,
            class_names=list("abcdef"[:classes]),
            modality_names=names,
            **plan,
            **{**defaults, **arguments},
        )
        network.apply(network.initialize)
        return network

    return build


@pytest.mark.parametrize("dimension", [2, 3])
def test_training_output(tiny, dimension):
    network = tiny(dimension)
    output = network(torch.randn(4, 3, *[8] * dimension))
    assert isinstance(output, IntraInterOutput)
    assert output.trained == [0, 1, 2, 3]
    for iteration in output.iterations:
        assert iteration.fused.shape == iteration.decision.shape == (4, 3)
        assert [logits.shape for logits in iteration.modalities] == [(4, 3)] * 3
    assert output.weights["intra"].shape == (4, 4)
    assert output.exploration.episodes["inter"].actions.shape == (4, 3, 3)
    assert [decision.shape for decision in output.exploration.decisions] == [(4, 3)] * 3


def test_the_decision_is_the_sum_of_all_outputs(tiny):
    """The paper's plain sum where all weights are 1, as in iteration 0 and of new agents."""
    output = tiny()(torch.randn(4, 3, 8, 8))
    first, last = output.iterations[0], output.iterations[-1]
    torch.testing.assert_close(first.decision, first.fused + sum(first.modalities))
    assert (output.weights["inter"] - 1).abs().max() < 1e-6  # of new agents
    torch.testing.assert_close(last.decision, last.fused + sum(last.modalities))


def test_weights_reach_the_concatenation_and_the_sum(tiny):
    network = tiny(agents=["inter"], iterations=1).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        network.policies["inter"].mean.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
        weights = 2 * torch.sigmoid(torch.tensor([0.5, -1.0, 2.0]))
        features = [
            encoder(stem(x[:, m : m + 1]))[-1].mean((2, 3))
            for m, (stem, encoder) in enumerate(zip(network.stems, network.encoders, strict=True))
        ]
        fused = network.classifier(
            network.fusion(torch.cat([w * f for w, f in zip(weights, features, strict=True)], 1))
        )
        own = sum(w * head(f) for w, head, f in zip(weights, network.heads, features, strict=True))
        torch.testing.assert_close(network(x), fused + own)


def test_a_sample_s_prediction_does_not_depend_on_the_others_or_on_an_absent_modality(tiny):
    network, x = tiny().eval(), torch.randn(3, 3, 8, 8)
    x[1, 2] = 0
    together = network(x)
    for sample in range(3):
        torch.testing.assert_close(network(x[sample : sample + 1])[0], together[sample])
    output = network.train()(x)
    assert output.samples == [[0, 1, 2], [0, 1, 2], [0, 2]]
    assert torch.isnan(output.weights["inter"][1, 2])


def test_one_modality_has_the_intra_agent_alone(tiny):
    output = tiny(modalities=1, agents=["intra"])(torch.randn(2, 1, 8, 8))
    assert set(output.weights) == {"intra"}
    loss = IteratedLoss(ClassificationLoss(), ClassificationLoss(), 4.0)(output, torch.tensor([0, 2]))
    assert loss.isfinite()


def test_the_loss_is_that_of_eq_2_with_half_of_lambda_for_the_decision(tiny):
    network, labels = tiny(), torch.tensor([0, 2, 1])
    x = torch.randn(3, 3, 8, 8)
    x[0, 1] = 0
    output = network(x)
    cross_entropy = torch.nn.functional.cross_entropy
    total = 0.0
    for iteration in output.iterations:
        total += 2 * cross_entropy(iteration.fused, labels) + 2 * cross_entropy(iteration.decision, labels)
        for logits, rows in zip(iteration.modalities, output.samples, strict=True):
            total += cross_entropy(logits, labels[rows])
    loss = IteratedLoss(ClassificationLoss(), ClassificationLoss(), network.fused_output_weight)
    torch.testing.assert_close(loss(output, labels), total / (4 * (4 + 3)))


def test_agreement_of_classes_counts_all_of_them():
    logits = [torch.tensor([[9.0, 0.0], [0.0, 9.0]])[..., None], torch.tensor([[9.0, 0.0], [9.0, 0.0]])[..., None]]
    present, samples = torch.ones(2, 2, dtype=torch.bool), [[0, 1], [0, 1]]
    statistics = output_statistics(logits, torch.ones(2, 2), samples, present, regions=False, background=False)
    agreement = statistics[:, 2:4]
    torch.testing.assert_close(agreement[0], torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(agreement[1], torch.zeros(2), atol=1e-3, rtol=0)


def make_batch(generator, size=10):
    """Return images whose first modality alone shows the class (a brighter half), and the classes."""
    labels = torch.randint(0, 2, (size,), generator=generator)
    x = torch.randn(size, 2, 8, 8, generator=generator)
    for sample, label in enumerate(labels.tolist()):
        x[sample, 0, :, 4 * label : 4 * label + 4] += 1.0
    return x, labels


@pytest.mark.slow
def test_the_modality_that_shows_the_class_is_weighed_highest(tiny):
    """Trained as the trainer does: Adam for the backbone, PPO for the agent, rewards of the true class."""
    network = tiny(modalities=2, classes=2, agents=["inter"], iterations=1)
    config = replace(WEIGHT_PPO, transitions_per_update=96)
    agent = InterAgent(network.modality_names, network.policies["inter"], config, torch.device("cpu"))
    trained = [p for name, p in network.named_parameters() if not name.startswith("policies.")]
    optimizer = torch.optim.Adam(trained, 1e-3)
    loss, generator = IteratedLoss(ClassificationLoss(), ClassificationLoss(), 4.0), torch.Generator().manual_seed(0)

    def probability(decision, labels):
        return true_label_probability(decision[..., None], labels[:, None, None])

    for step in range(1200):
        x, labels = make_batch(generator)
        output = network(x)
        optimizer.zero_grad()
        loss(output, labels).backward()
        optimizer.step()
        mean = probability(output.iterations[1].decision, labels)
        drawn = probability(output.exploration.decisions[0], labels)
        gains = torch.stack((torch.zeros_like(mean), drawn - mean), 1).detach()
        agent.learn(WeightReport({}, 0.0, step / 1200, output.weights, output.exploration.episodes, gains))
    x, labels = make_batch(generator, 200)
    weights = network(x).weights["inter"].mean(0)
    accuracy = (network.eval()(x).argmax(1) == labels).float().mean()
    assert accuracy > 0.9
    assert weights[0] > weights[1] + 0.1


def test_no_agent_selects(tiny):
    with pytest.raises(ValueError, match="no agent selects"):
        tiny(agents=["selection"], iterations=0)
