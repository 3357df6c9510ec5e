"""The whole workflow with real commands on phantom hearts of 24 voxels: what a user types, and what must come out."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from checkpoints import assert_equal, comparable, kill_in_epoch_1, load

SEED = {"RL_NNUNET_SEED": "3"}
CASES = ("ct_test_2001", "mr_test_2001", "pair_2001")


@pytest.fixture(scope="module")
def trained(hearts):
    """The hearts after an uninterrupted training."""
    hearts.train("ShortTrainer", **SEED)
    return hearts


@pytest.fixture(scope="module")
def predicted(trained):
    """Predictions of the CT-only, the MR-only and the pair case."""
    output = trained.root / "predictions"
    trained.predict("ShortTrainer", output)
    return output


def test_training_writes_what_nnunet_and_we_promise(trained):
    model = trained.model("ShortTrainer")
    fold = model / "fold_0"
    for name in ("progress.png", "progress_rl.png", "checkpoint_best.pth", "checkpoint_final.pth"):
        assert (fold / name).stat().st_size > 0
    assert not list(fold.glob("*unfinished*"))
    checkpoint = load(fold)
    assert checkpoint["trainer_name"] == "ShortTrainer"
    assert set(checkpoint["rl_nnunet"]) == {"agents", "extra", "random_state"}
    log = checkpoint["logging"]
    for key in ("train_loss_CT", "pseudo_dice_MRI", "dice_weight_CT", "alignment_loss", "reward_stage2"):
        assert len(log[key]) == 2, key
    plans = json.loads((model / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == "rl_nnunet.networks.rl_u2net.RLU2Net"


def test_validation_is_summarized_per_branch(trained):
    validation = trained.model("ShortTrainer") / "fold_0" / "validation"
    summary = json.loads((validation / "summary_per_branch.json").read_text())
    assert set(summary) == {"CT", "MRI"}
    cases = json.loads((trained.preprocessed / "splits_final.json").read_text())[0]["val"]
    assert sum(row["cases"] for row in summary.values()) == len(cases) == len(list(validation.glob("*.nii.gz")))
    assert all(0 <= row["mean"] <= 1 for row in summary.values())


def test_one_checkpoint_predicts_ct_mr_and_pair(trained, predicted):
    assert sorted(path.name for path in predicted.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in CASES]
    labels = json.loads((trained.raw / "dataset.json").read_text())["labels"]
    for case in CASES:
        image = sitk.ReadImage(trained.raw / "imagesTs" / f"{case}_0000.nii.gz")
        segmentation = sitk.ReadImage(predicted / f"{case}.nii.gz")
        assert segmentation.GetSize() == image.GetSize()
        for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(segmentation, getter)(), getattr(image, getter)(), atol=1e-5)
        assert set(np.unique(sitk.GetArrayFromImage(segmentation))) <= set(labels.values())


def test_predictions_are_evaluated_by_the_stock_command(trained, predicted):
    model = trained.model("ShortTrainer")
    trained.run(
        "nnUNetv2_evaluate_folder", trained.raw / "labelsTs", predicted, "-djfile", model / "dataset.json", "-pfile",
        model / "plans.json", "-np", 1,
    )  # fmt: skip
    summary = json.loads((predicted / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(CASES)


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path):
    """SIGKILL in the second iteration of epoch 1; the first epoch also shows that two runs with one seed agree."""
    killed = trained.with_results(tmp_path)
    fold = killed.model("ShortTrainer") / "fold_0"
    kill_in_epoch_1(killed, "ShortTrainer", "RLXAlignSmallPlans", **SEED)

    latest, uninterrupted = load(fold, "checkpoint_latest.pth"), comparable(trained.model("ShortTrainer") / "fold_0")
    assert latest["current_epoch"] == 1
    for key in (
        "train_losses",
        "val_losses",
        "train_loss_CT",
        "train_loss_MRI",
        "dice_weight_MRI",
        "reward_stage2",
    ):
        assert_equal(latest["logging"][key], uninterrupted["logging"][key][:1], key)

    killed.train("ShortTrainer", "--c", **SEED)
    assert_equal(comparable(fold), uninterrupted)


# ---- slow: what else nnU-Net's flags and planners promise ------------------------------------------------------------


def assert_predicts(project, trainer, output, **which):
    """Train ends in a model that the stock command predicts with."""
    project.predict(trainer, output, **which)
    for image in (project.raw / "imagesTs").glob("*_0000.nii.gz"):
        segmentation = sitk.ReadImage(output / image.name.replace("_0000", ""))
        assert segmentation.GetSize() == sitk.ReadImage(image).GetSize()


@pytest.mark.slow
def test_two_runs_with_one_seed_are_equal(trained, tmp_path):
    again = trained.with_results(tmp_path)
    again.train("ShortTrainer", **SEED)
    folds = [project.model("ShortTrainer") / "fold_0" for project in (again, trained)]
    assert_equal(comparable(folds[0]), comparable(folds[1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer",
    ["ShortNoCMA", "ShortNoXAlign", "ShortNoAuxLoss", "ShortNoAGWD", "ShortGlobalPolicy", "ShortFeatureSimilarity"],
)
def test_ablation_trains_and_predicts(hearts, tmp_path, trainer):
    project = hearts.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train(trainer)
    assert_predicts(project, trainer, tmp_path / "predictions")


@pytest.mark.slow
def test_a_loss_weight_agent_goes_on_as_if_it_had_not_been_killed(hearts, tmp_path):
    """Its policy has learnt, its weights have an effect, and the stock command predicts with the model."""
    trainer = "ShortLossWeightAgent"
    projects = [hearts.with_results(tmp_path / name) for name in ("whole", "killed")]
    projects[0].train(trainer, **SEED)
    kill_in_epoch_1(projects[1], trainer, "RLXAlignSmallPlans", **SEED)
    projects[1].train(trainer, "--c", **SEED)
    folds = [project.model(trainer) / "fold_0" for project in projects]
    assert_equal(comparable(folds[1]), comparable(folds[0]))

    checkpoint = load(folds[0])
    agent, log = checkpoint["rl_nnunet"]["agents"]["loss_weights"], checkpoint["logging"]
    assert agent["rewards"] == 3
    assert agent["policy"]["2.weight"].any()
    assert log["dice_weight_CT"] == log["cross_entropy_weight_CT"]
    assert log["dice_weight_CT"][0] == 1
    assert len(set(log["dice_weight_CT"])) > 1
    assert_predicts(projects[0], trainer, tmp_path / "predictions")


@pytest.mark.slow
def test_2d_configuration(hearts, tmp_path):
    project = hearts.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.run("nnUNetv2_preprocess", "-d", project.id, "-plans_name", "RLXAlignSmallPlans", "-c", "2d", "-np", 1)
    project.train("ShortTrainer", configuration="2d")
    assert_predicts(project, "ShortTrainer", tmp_path / "predictions", configuration="2d")


@pytest.mark.slow
def test_stock_plans(hearts, copy_raw, tmp_path):
    """nnU-Net's own planner and fingerprint: the trainer derives the branches, and says what is wrong with the CT."""
    project = copy_raw(hearts, tmp_path)
    project.run("nnUNetv2_plan_and_preprocess", "-d", project.id, "-c", "3d_fullres", "-npfp", 1, "-np", 1)
    output = project.train("ShortTrainer", plans="nnUNetPlans")
    assert (
        "NOTE: The plans are nnUNetPlans, which know no branches. Derived: a stem and a decoder for each of" in output
    )
    assert "NOTE: Channel CT is normalized with intensity statistics that count the zero-filled cases" in output
    assert_predicts(project, "ShortTrainer", tmp_path / "predictions", plans="nnUNetPlans")


@pytest.mark.slow
def test_swin_plans(hearts, copy_raw, tmp_path):
    """The paper's encoder; the memory target keeps its patch small."""
    project = copy_raw(hearts, tmp_path)
    project.run(
        "rl_nnunet_plan_and_preprocess", "-d", project.id, "-pl", "RLXAlignSwinPlanner", "-c", "3d_fullres",
        "-gpu_memory_target", 1, "-npfp", 1, "-np", 1,
    )  # fmt: skip
    project.train("ShortTrainer", plans="RLXAlignSwinPlans")
    assert_predicts(project, "ShortTrainer", tmp_path / "predictions", plans="RLXAlignSwinPlans")


@pytest.mark.slow
def test_validation_flags(trained, tmp_path):
    project = trained.with_results(tmp_path)
    shutil.copytree(trained.results, project.results)
    validation = project.model("ShortTrainer") / "fold_0" / "validation"
    for flags in (["--val", "--npz"], ["--val", "--val_best"]):
        shutil.rmtree(validation)
        output = project.train("ShortTrainer", *flags)
        assert "Mean validation Dice per branch" in output
        assert json.loads((validation / "summary_per_branch.json").read_text()).keys() == {"CT", "MRI"}
        assert bool(list(validation.glob("*.npz"))) == ("--npz" in flags)


@pytest.mark.slow
def test_pretrained_weights(trained, tmp_path):
    project = trained.with_results(tmp_path)
    checkpoint = trained.model("ShortTrainer") / "fold_0" / "checkpoint_final.pth"
    output = project.train("ShortDefault", "-pretrained_weights", checkpoint)
    assert "Loading pretrained weights" in output
    assert (project.model("ShortDefault") / "fold_0" / "checkpoint_final.pth").is_file()


@pytest.mark.slow
def test_paired_data_set_without_a_word_about_branches(new_project):
    """nnU-Net's plain format: each channel is a branch; a missing one may be left black at prediction."""
    project = new_project("Dataset902_Paired")
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (project.raw / folder).mkdir(parents=True)
    for number in range(7):
        labels = np.zeros((20, 22, 24), np.uint8)
        corner = rng.integers(3, 8, 3)
        labels[tuple(slice(c, c + 9) for c in corner)] = 1
        labels[tuple(slice(c, c + 4) for c in corner)] = 2
        for channel in range(2):
            image = rng.normal(100 + 50 * labels * (channel + 1), 10).astype(np.float32)
            if number == 6 and channel == 1:
                image[:] = 0
            folder = "imagesTr" if number < 5 else "imagesTs"
            name = f"case_{number}_{channel:04d}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(image), project.raw / folder / name)
        if number < 5:
            sitk.WriteImage(sitk.GetImageFromArray(labels), project.raw / "labelsTr" / f"case_{number}.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "cube": 1, "corner": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (project.raw / "dataset.json").write_text(json.dumps(description))
    project.run(
        "rl_nnunet_plan_and_preprocess", "-d", project.id, "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp",
        1, "-np", 1,
    )  # fmt: skip
    project.train("ShortTrainer")
    fold = project.model("ShortTrainer") / "fold_0"
    assert set(json.loads((fold / "validation" / "summary_per_branch.json").read_text())) == {"T1+T2"}
    assert {"pseudo_dice_T1", "pseudo_dice_T2"} <= set(load(fold)["logging"])
    assert_predicts(project, "ShortTrainer", project.root / "predictions")
