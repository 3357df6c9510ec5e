"""``--fast_resampling``: what the plans say, and that it interpolates as a closed form and nnU-Net's default do."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.resampling.planners_no_resampling import (
    nnUNetPlannerResEncL_noResampling,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

from rl_nnunet.errors import InputError
from rl_nnunet.planners.classification_planner import ClassificationSmallPlanner
from rl_nnunet.planners.fast_resampling import with_fast_resampling
from rl_nnunet.planners.intra_inter_planner import IntraInterSmallPlanner
from rl_nnunet.planners.plan_and_preprocess import main
from rl_nnunet.planners.plan_table import describe_resampling
from rl_nnunet.planners.rl_xalign_planner import RLXAlignPlanner

NAME, DEFAULT, TORCH = "Dataset001_Unpaired", "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
SMALL = ("-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pbar", "--no_pp")
FUNCTIONS = ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities")
ISOTROPIC = ((1.0, 1.0, 1.0), (0.75, 0.75, 0.75), (8, 9, 10), (11, 12, 13))
"""Spacing before and after, shape before and after; upsampling, as most exports are."""
ANISOTROPIC = ((5.0, 1.0, 1.0), (3.0, 0.75, 0.75), (5, 9, 10), (8, 12, 13))


@pytest.fixture
def plan(run, write_dataset, unpaired_cases, fingerprint_in_threads, nnunet_folders):
    """Return a function that plans with the command, and returns what it printed, and plans by their names."""
    write_dataset(NAME, unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]})

    def plan_with(*words):
        outcome = run(main, *words)
        assert outcome.code == 0, outcome.err
        files = (nnunet_folders / "nnUNet_preprocessed" / NAME).glob("*Plans*.json")
        return outcome.out, {file.stem: json.loads(file.read_text()) for file in files}

    return plan_with


def test_all_that_is_resampled_is_resampled_by_torch(plan):
    printed, plans = plan(*SMALL, "--fast_resampling")
    assert list(plans) == ["RLXAlignSmallPlans_fast"]
    fast = plans["RLXAlignSmallPlans_fast"]
    assert fast["experiment_planner_used"] == "RLXAlignSmallPlanner"
    assert set(fast["configurations"]) == {"2d", "3d_fullres"}
    for name, configuration in fast["configurations"].items():
        assert [configuration[function] for function in FUNCTIONS] == [TORCH] * 3
        arguments = [configuration[f"{function}_kwargs"] for function in FUNCTIONS]
        assert [each["is_seg"] for each in arguments] == [False, True, False]
        assert all(each["force_separate_z"] is None for each in arguments)
        assert not any(each["memefficient_seg_resampling"] for each in arguments)
        assert configuration["data_identifier"] == f"RLXAlignSmallPlans_fast_{name}"
    assert "Resampling: torch for images, labels, predictions.\n" in printed


def test_export_changes_nothing_but_the_export(plan):
    printed, before = plan(*SMALL)
    assert "Resampling: nnU-Net's default for images, labels, predictions.\n" in printed
    printed, after = plan(*SMALL, "--fast_resampling", "export")
    assert "Resampling: nnU-Net's default for images, labels; torch for predictions.\n" in printed
    assert list(before) == list(after) == ["RLXAlignSmallPlans"]
    for old, new in zip(
        *(each["RLXAlignSmallPlans"]["configurations"].values() for each in (before, after)), strict=True
    ):
        changed = {key for key in old if old[key] != new[key]}
        assert changed == {"resampling_fn_probabilities", "resampling_fn_probabilities_kwargs"}
        assert new["resampling_fn_probabilities"] == TORCH


@pytest.mark.parametrize("name", ["Mine", "Mine_fast"])
def test_data_are_kept_apart_from_those_of_plans_of_the_same_name(plan, name):
    _, plans = plan(*SMALL, "--fast_resampling", "-overwrite_plans_name", name.replace("Mine", "MinePlans"))
    identifiers = [entry["data_identifier"] for entry in next(iter(plans.values()))["configurations"].values()]
    assert identifiers == ["MinePlans_fast_2d", "MinePlans_fast_3d_fullres"]


def test_planners_of_nnunet_share_no_data_with_the_default(plan):
    """Those of ResEnc presets otherwise use the data of nnUNetPlans."""
    _, plans = plan("-d", 1, "-pl", "nnUNetPlannerResEncM", "--no_pbar", "--no_pp", "--fast_resampling")
    configuration = plans["nnUNetResEncUNetMPlans_fast"]["configurations"]["3d_fullres"]
    assert configuration["data_identifier"] == "nnUNetResEncUNetMPlans_fast_3d_fullres"
    assert configuration["resampling_fn_probabilities"] == TORCH


@pytest.mark.parametrize("flags", [(), ("--fast_resampling", "export")])
def test_a_name_that_would_mix_data_is_refused(run, nnunet_folders, assert_refused_in_one_sentence, flags):
    outcome = run(main, *SMALL, "-overwrite_plans_name", "Mine_fast", *flags)
    assert_refused_in_one_sentence(outcome, "names that end in _fast are of plans with --fast_resampling")
    assert not list((nnunet_folders / "nnUNet_preprocessed").iterdir())


def test_planners_for_which_it_makes_no_sense_are_refused():
    with pytest.raises(InputError, match="nnUNetPlannerResEncL_noResampling chooses a resampling of its own; leave"):
        with_fast_resampling(nnUNetPlannerResEncL_noResampling, "export")
    with pytest.raises(InputError, match="ClassificationSmallPlanner plans a classifier, which exports no segm"):
        with_fast_resampling(ClassificationSmallPlanner, "export")
    for planner in (ClassificationSmallPlanner, IntraInterSmallPlanner, RLXAlignPlanner):
        functions = with_fast_resampling(planner, "all").determine_resampling(None)
        assert [function.__name__ for function in functions[::2]] == [TORCH] * 2


def test_configurations_that_differ_are_named():
    old, new = ({function: name for function in FUNCTIONS} for name in ("own_function", TORCH))
    sentence = describe_resampling({"2d": new, "mine": old, "3d_fullres": new})
    of_mine = "Of mine: own_function for images, labels, predictions."
    assert sentence == f"Resampling of 2d, 3d_fullres: torch for images, labels, predictions. {of_mine}"


# ---- what the functions of the plans do ----------------------------------------------------------------------------


def functions_of(planner):
    """Return what nnU-Net makes of a planner's choice: functions for images, labels and predictions."""
    data, data_arguments, seg, seg_arguments = planner.determine_resampling(None)
    probabilities, arguments = planner.determine_segmentation_softmax_export_fn(None)
    choices = zip(FUNCTIONS, (data, seg, probabilities), (data_arguments, seg_arguments, arguments), strict=True)
    entries = {"spacing": [1.0] * 3, "architecture": {}}
    for name, function, its_arguments in choices:
        entries |= {name: function.__name__, f"{name}_kwargs": its_arguments}
    plans = PlansManager({"configurations": {"3d_fullres": json.loads(json.dumps(entries))}})
    configuration = plans.get_configuration("3d_fullres")
    return [getattr(configuration, name) for name in FUNCTIONS]


@pytest.fixture(scope="module")
def fast():
    return functions_of(with_fast_resampling(RLXAlignPlanner, "all"))


@pytest.fixture(scope="module")
def default():
    return functions_of(RLXAlignPlanner)


def places(before, after):
    """Return where the centers of the new voxels lie among those of the old ones, up to the outermost of these."""
    return np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize(("current", "new", "shape", "new_shape"), [ISOTROPIC, ANISOTROPIC], ids=["iso", "aniso"])
def test_a_ramp_is_interpolated_between_the_centers_of_voxels(fast, current, new, shape, new_shape, kind):
    grids = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ramps = np.stack([*grids, 100 - sum(grids)]).astype(np.float32)
    expected = [places(*sizes) for sizes in zip(shape, new_shape, strict=True)]
    if current[0] > 3:  # slices are taken as they are, from the nearest one
        expected[0] = np.floor((np.arange(new_shape[0]) + 0.5) * shape[0] / new_shape[0])
    expected = np.meshgrid(*expected, indexing="ij")
    for function in (fast[0], fast[2]):
        found = np.asarray(function(kind(ramps), new_shape, current, new))
        np.testing.assert_allclose(found, [*expected, 100 - sum(expected)], atol=1e-4)


@pytest.mark.parametrize(("current", "new", "shape", "new_shape"), [ISOTROPIC, ANISOTROPIC], ids=["iso", "aniso"])
def test_labels_of_slabs_end_where_the_interpolated_step_is_one_half(fast, current, new, shape, new_shape):
    labels = np.zeros((1, *shape), np.float32)
    labels[..., 3:6], labels[..., 6:] = 1, 7
    along = places(shape[2], new_shape[2])
    expected = np.select([along > 5.5, along > 2.5], [7, 1], 0)
    found = fast[1](labels, new_shape, current, new)
    np.testing.assert_array_equal(found[0], np.broadcast_to(expected, new_shape))


@pytest.mark.parametrize("slices_alone", [False, True], ids=["3d", "2d"])
@pytest.mark.parametrize(("current", "new", "shape", "new_shape"), [ISOTROPIC, ANISOTROPIC], ids=["iso", "aniso"])
def test_predictions_are_those_of_the_default(fast, default, current, new, shape, new_shape, slices_alone):
    shape, new_shape = ([sizes[0], sizes[1] * 5, sizes[2] * 5] for sizes in (shape, new_shape))
    if slices_alone:  # a 2D configuration leaves the slices as they are
        current, new_shape = (new[0], *current[1:]), (shape[0], *new_shape[1:])
    noise = np.random.default_rng(0).normal(size=(4, *shape))
    logits = gaussian_filter(noise, (0, 1, 2, 2)).astype(np.float32)
    results = [functions[2](logits, new_shape, current, new) for functions in (fast, default)]
    np.testing.assert_allclose(*results, atol=1e-5)
    labels = [result.argmax(0) for result in results]
    assert (labels[0] != labels[1]).mean() < 1e-4
    regions = [result > 0 for result in results]
    assert (regions[0] != regions[1]).mean() < 1e-4
