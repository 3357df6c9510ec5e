"""Several scans of a patient, each on its own grid, with real commands on phantom hearts in CT and MR of 24 voxels."""

import json
import shutil

import pytest
import SimpleITK as sitk
from checkpoints import assert_equal, comparable, kill_in_epoch_1

SEED = {"RL_NNUNET_SEED": "3"}
VALUES = {"myocardium": 205, "left_atrium": 420, "left_ventricle": 500, "right_atrium": 550, "right_ventricle": 600}
LABELS = [f"{name}={value}" for name, value in {**VALUES, "aorta": 820, "pulmonary_artery": 850}.items()]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, make_project):
    """Five patients with a CT and an MR, planned with `RLXAlignSmallPlanner`, by the commands."""
    project = make_project(tmp_path_factory.mktemp("pairs"), "Dataset904_Pairs")
    phantom = project.root / "phantom"
    project.run(
        "rl_nnunet_make_phantom", "-o", phantom, "--cases", 5, "--test_cases", 1, "--size", 24, "--paired", "-np", 1
    )
    files = {"CT": phantom / "ct_{part}" / "ct_{part}_{{case}}", "MRI": phantom / "mr_{part}" / "mr_{part}_{{case}}"}
    branches = []
    for branch, stem in files.items():
        train, test = (str(stem).format(part=part) for part in ("train", "test"))
        branches += ["--branch", f"{branch}={train}_image.nii.gz:{train}_label.nii.gz"]
        branches += ["--test", f"{branch}={test}_image.nii.gz"]
    output = project.run(
        "rl_nnunet_convert_unpaired", "-d", project.id, "-n", "Pairs", *branches, "--labels", *LABELS,
        "--same_patient", "-np", 1,
    )  # fmt: skip
    assert "5 of 5 training patients have scans of several branches, first 1001" in output
    project.plan("RLXAlignSmallPlanner")
    return project


@pytest.fixture(scope="module")
def trained(pairs):
    """The hearts after an uninterrupted training."""
    pairs.train("ShortTrainer", **SEED)
    return pairs


def log_of(project, trainer="ShortTrainer"):
    (log,) = (project.model(trainer) / "fold_0").glob("training_log_*.txt")
    return log.read_text()


def test_the_log_says_who_trains_together_and_how_places_are_found(trained):
    assert (
        "4 of 4 training patients have scans of several branches. In 75% of their samples, the branches show one place "
        "of one patient; places are found by coordinates (8)."
    ) in log_of(trained)


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path):
    killed = trained.with_results(tmp_path)
    kill_in_epoch_1(killed, "ShortTrainer", "RLXAlignSmallPlans", **SEED)
    killed.train("ShortTrainer", "--c", **SEED)
    assert_equal(
        comparable(killed.model("ShortTrainer") / "fold_0"), comparable(trained.model("ShortTrainer") / "fold_0")
    )


def test_the_plans_decide(trained, copy_raw, tmp_path):
    project = copy_raw(trained, tmp_path)
    shutil.copytree(trained.preprocessed, project.preprocessed)
    file = project.preprocessed / "RLXAlignSmallPlans.json"
    plans = json.loads(file.read_text())
    assert plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["carried_stages"]  # all trainings here
    assert plans["configurations"]["3d_fullres"]["companions"] == {"same_patient": 0.75, "placement": "auto"}
    plans["configurations"]["3d_fullres"]["companions"] = {"same_patient": 1.0, "placement": "relative"}
    file.write_text(json.dumps(plans))
    project.train("ShortTrainer", **SEED)
    assert "In 100% of their samples" in log_of(project)
    assert "found by relative extent (8)" in log_of(project)
    (project.preprocessed / "cases.csv").unlink()
    refused = project.train("ShortTrainer", "--c", code=1)
    assert "Error: There is no" in refused
    assert "cases.csv, which says which scans are of one patient; plan and preprocess anew" in refused


def test_prediction_from_both_scans_and_by_the_stock_command(trained):
    project = trained
    project.predict("ShortTrainer", project.root / "stock")
    both = project.root / "both"
    both.mkdir()
    for channel, branch in enumerate(("CT", "MRI")):
        source = project.raw / "imagesTs" / f"{branch}_2001_{channel:04d}.nii.gz"
        shutil.copy(source, both / f"p_{channel:04d}.nii.gz")
    project.run(
        "rl_nnunet_predict", "-i", both, "-o", project.root / "predicted", "-d", project.id, "-c", "3d_fullres", "-f",
        "0", "-p", "RLXAlignSmallPlans", "-tr", "ShortTrainer", "-device", "cpu", "-npp", 1, "-nps", 1,
        "--disable_tta",
    )  # fmt: skip
    for channel, branch in enumerate(("CT", "MRI")):
        size = sitk.ReadImage(both / f"p_{channel:04d}.nii.gz").GetSize()
        assert sitk.ReadImage(project.root / "predicted" / branch / "p.nii.gz").GetSize() == size
        assert sitk.ReadImage(project.root / "stock" / f"{branch}_2001.nii.gz").GetSize() == size
