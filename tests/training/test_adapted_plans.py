"""Networks of ours refuse what they cannot do, in one sentence: classifiers do not segment."""

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.plans.classification import ClassificationNetPlan, classifier_arguments
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer


@pytest.fixture
def classifier():
    """A network for two classes, as nnU-Net's predictor builds it from the plans of a model folder."""
    arguments = {**classifier_arguments(2, 8, 2), "class_names": ["a", "b"], "blank_values": [0.0]}
    architecture = {
        "network_class_name": ClassificationNetPlan.network_class,
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    plans = PlansManager({"plans_name": "Plans", "configurations": {"2d": {"architecture": architecture}}})
    build = ClassificationTrainer.build_network_architecture
    return build(plans, plans.get_configuration("2d"), 1, 2, enable_deep_supervision=False).eval()


def test_a_classifier_refuses_a_sliding_window(classifier):
    x = torch.randn(1, 1, 8, 8)
    with torch.inference_mode(), pytest.raises(SystemExit, match="^Error: This model classifies .* run rl_nnunet_cl"):
        classifier(x)
    with torch.no_grad():
        assert classifier(x).shape == (1, 2)
    assert classifier.train()(x).requires_grad


def test_a_compiled_classifier_refuses_it_too(classifier):
    compiled = torch.compile(classifier, backend="eager")
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), classifier(x))
    with torch.inference_mode(), pytest.raises(SystemExit, match="rl_nnunet_classify"):
        compiled(x)
