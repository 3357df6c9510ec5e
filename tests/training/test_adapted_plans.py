"""Who may build a classifier: training and `rl_nnunet_classify`, but not nnU-Net's prediction, which segments."""

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.plans.classification import ClassificationNetPlan, classifier_arguments
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.training.expected_classes import expecting_classes


def build():
    """Build a network for two classes, as nnU-Net's predictor does from the plans of a model folder."""
    arguments = {**classifier_arguments(2, 8, 2), "class_names": ["a", "b"], "blank_values": [0.0]}
    architecture = {
        "network_class_name": ClassificationNetPlan.network_class,
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    plans = PlansManager({"plans_name": "Plans", "configurations": {"2d": {"architecture": architecture}}})
    configuration = plans.get_configuration("2d")
    return ClassificationTrainer.build_network_architecture(plans, configuration, 1, 2, enable_deep_supervision=False)


def test_a_classifier_is_built_by_who_expects_classes_only():
    with expecting_classes():
        assert build()(torch.randn(2, 1, 8, 8)).shape == (2, 2)
    with pytest.raises(SystemExit, match="^Error: This model classifies .* run rl_nnunet_classify"):
        build()


def test_an_error_ends_the_expectation():
    with pytest.raises(ZeroDivisionError), expecting_classes():
        raise ZeroDivisionError
    with pytest.raises(SystemExit, match="rl_nnunet_classify"):
        build()
