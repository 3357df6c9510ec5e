"""Plans of classifiers: from early fusion to the agents' network, and what is refused."""

from copy import deepcopy

import pytest
from stock_plans import stock_plans

from rl_nnunet.errors import InputError
from rl_nnunet.plans.adapt import adapt
from rl_nnunet.plans.classification import ClassificationNetPlan, Crop, classifier_arguments, default_crop, planned_crop
from rl_nnunet.plans.intra_inter_classifier import IntraInterClassifierPlan

CHANNELS = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": {"background": 0, "tumor": 1}}


@pytest.fixture
def plans():
    """Plans of the classification planner, with the configurations of stock ones."""
    plans = deepcopy(stock_plans())
    entry = plans["configurations"]["3d_fullres"]
    entry |= {"patch_size": [32] * 3, "classification": {"crop": "structure", "margin": 5.0}}
    arguments = {**classifier_arguments(3, 32, 4), "class_names": ["a", "b"], "blank_values": [-2.0, 0.0]}
    entry["architecture"] |= {"network_class_name": ClassificationNetPlan.network_class, "arch_kwargs": arguments}
    return plans


def arguments_of(plans):
    return plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]


def test_plans_of_early_fusion_get_modalities_and_agents(plans):
    changed, messages = adapt(plans, "3d_fullres", CHANNELS, IntraInterClassifierPlan(), {})
    arguments = arguments_of(changed)
    assert arguments["modality_names"] == ["CT", "MRI"]
    assert (arguments["agents"], arguments["iterations"]) == (["intra", "inter"], 3)
    assert "CT, MRI" in messages[0]
    assert adapt(changed, "3d_fullres", CHANNELS, IntraInterClassifierPlan(), {}) == (changed, [])
    assert adapt(plans, "3d_fullres", CHANNELS, ClassificationNetPlan(), {}) == (plans, [])


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (ClassificationNetPlan(), "unet.ResidualEncoderUNet; classifiers need plans of ClassificationPlanner.$"),
        (IntraInterClassifierPlan(), "the agents need plans of ClassificationPlanner.$"),
    ],
)
def test_plans_of_segmentation_are_refused(network, sentence):
    with pytest.raises(InputError, match=sentence):
        adapt(stock_plans(), "3d_fullres", CHANNELS, network, {})


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (None, "The plans have no entry classification; plan with ClassificationPlanner"),
        ({"crop": "tumor"}, "crop must be structure or image, not 'tumor'"),
        ({"margin": -1}, "margin must be a number of mm, 0 or more, not -1"),
        ({"edge": 3}, "there is no edge, only crop, margin"),
    ],
)
def test_crops_that_cannot_be_used_are_refused(entry, sentence):
    with pytest.raises(InputError, match=sentence):
        planned_crop({"classification": entry})


def test_the_margin_in_voxels_and_the_crop_of_a_data_set():
    assert Crop(margin=5.0).margin_voxels([2.0, 1.0, 5.0]) == [2, 5, 1]
    assert default_crop({}) == Crop("structure")
    assert default_crop({"rl_nnunet": {"crop": "image"}}) == Crop("image")
