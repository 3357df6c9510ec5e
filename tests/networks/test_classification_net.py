"""The classifier with one encoder: it sees intensities, and what is absent makes no difference."""

import pydoc

import pytest
import torch
from torch.nn import functional as F

from rl_nnunet.losses.classification_loss import ClassificationLoss
from rl_nnunet.networks.classification_net import ClassificationNet
from rl_nnunet.networks.sample_norm import SampleNorm
from rl_nnunet.plans.classification import classifier_arguments


def build(dimension=3, channels=2, edge=8):
    arguments = classifier_arguments(dimension, edge, 4)
    for name in ("conv_op", "norm_op", "nonlin"):
        arguments[name] = pydoc.locate(arguments[name])
    torch.manual_seed(0)
    names, blank = ["a", "b", "c"], [0.0, -2.0][:channels]
    network = ClassificationNet(channels, 7, class_names=names, blank_values=blank, **arguments)
    network.apply(network.initialize)
    return network


@pytest.mark.parametrize("dimension", [2, 3])
def test_one_logit_a_class(dimension):
    network = build(dimension)
    assert network(torch.randn(5, 2, *[8] * dimension)).shape == (5, 3)
    assert network.encoder.output_channels == [4, 8, 16]
    maps = 2 * 4 * 8**dimension
    assert network.compute_conv_feature_map_size([8] * dimension) > maps


def test_an_absent_channel_is_zero_whatever_its_blank_value():
    network, x = build().eval(), torch.randn(2, 2, 8, 8, 8)
    x[0, 1] = -2.0
    zeroed = x.clone()
    zeroed[0, 1] = 0
    torch.testing.assert_close(network(x), network(zeroed))
    zeroed[1, 1] = 0
    assert not torch.allclose(network(x)[1], network(zeroed)[1])


def test_intensities_reach_the_output():
    """As they do not behind an instance normalization: the same texture, brighter in one channel."""
    network = build(dimension=2).eval()
    x = torch.randn(1, 2, 8, 8)
    brighter = x + torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert (network(x) - network(brighter)).abs().max() > 1e-3


def test_the_normalization_is_that_of_all_channels_together():
    x = torch.randn(3, 4, 5, 5) * 3 + 1
    expected = F.layer_norm(x, x.shape[1:], eps=1e-5)
    torch.testing.assert_close(SampleNorm(4, eps=1e-5, affine=False)(x), expected)


def test_the_loss_of_samples_and_their_mean():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    expected = -torch.log(torch.softmax(logits, 1))[range(4), labels]
    torch.testing.assert_close(ClassificationLoss().per_sample(logits, labels), expected)
    torch.testing.assert_close(ClassificationLoss()(logits, labels), expected.mean())
