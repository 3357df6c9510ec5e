"""The estimates are nnU-Net's own scale, read backwards."""

import json

import pytest
from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.planners.training_cost import RESENC_M_SECONDS_PER_EPOCH, estimate_cost


@pytest.fixture
def large(write_dataset, unpaired_cases, nnunet_folders):
    """A data set whose fingerprint is written by hand: cases of 160³ voxels at 1 mm."""
    name = "Dataset001_Unpaired"
    write_dataset(name, unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]})
    folder = nnunet_folders / "nnUNet_preprocessed" / name
    folder.mkdir()
    statistics = {"mean": 100.0, "std": 50.0, "percentile_00_5": -50.0, "percentile_99_5": 250.0}
    fingerprint = {
        "spacings": [[1.0] * 3] * 4,
        "shapes_after_crop": [[160] * 3] * 4,
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": statistics, "1": statistics},
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    return folder


@pytest.mark.parametrize("target", [2.0, 4.0])
def test_memory_fills_the_target_and_time_grows_with_it(large, target):
    planner = ResEncUNetPlanner(1, gpu_memory_target_in_gb=target, plans_name="P")
    planner.UNet_base_num_features = 8  # smaller networks for the same maps are quicker to build
    planner.plan_experiment()
    cost = estimate_cost(planner, PlansManager(str(large / "P.json")), "3d_fullres", 2)
    assert 0.5 * target < cost.memory_gb < 1.3 * target
    assert cost.seconds_per_epoch == pytest.approx(cost.memory_gb / 8 * RESENC_M_SECONDS_PER_EPOCH)
