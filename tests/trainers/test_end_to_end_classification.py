"""The workflow of classification by the commands: tumors of two grades, 16 voxels a side, both kinds of classifiers."""

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from checkpoints import assert_equal, comparable, kill_in_epoch_1, load

from rl_nnunet.case_table import read_case_table

PLANS = "ClassificationSmallPlans"
SEED = {"RL_NNUNET_SEED": "3"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(grades):
    """Both classifiers and the one with masks, of two epochs of three iterations."""
    for trainer in ("ShortClassification", "ShortIntraInterClassification", "ShortAPGAClassification"):
        grades.train(trainer, plans=PLANS, **SEED)
    return grades


def fold_of(project, trainer):
    return project.model(trainer, PLANS) / "fold_0"


def validation(project, trainer):
    return json.loads((fold_of(project, trainer) / "validation" / "summary.json").read_text())


def classify(project, trainer, output, *flags, code=0):
    return project.run(
        "rl_nnunet_classify", "-o", output, "-d", project.id, "-c", "3d_fullres", "-f", "0", "-p", PLANS, "-tr",
        trainer, "-device", "cpu", *flags, code=code,
    )  # fmt: skip


def test_a_classifier_learns_the_grade(grades):
    output = grades.train("LearningClassification", plans=PLANS, **SEED)
    assert "Validation cases of fold 0:" in output
    assert validation(grades, "LearningClassification")["metrics"]["balanced_accuracy"] > 0.7


@pytest.mark.parametrize("trainer", ["ShortClassification", "ShortIntraInterClassification"])
def test_training_writes_what_nnunet_and_we_promise(trained, trainer):
    fold = fold_of(trained, trainer)
    for name in ("progress.png", "progress_rl.png", "checkpoint_best.pth", "checkpoint_final.pth"):
        assert (fold / name).stat().st_size > 0
    log = load(fold)["logging"]
    assert len(log["validation_auc"]) == 2
    assert log["mean_fg_dice"] == log["validation_balanced_accuracy"]
    assert np.mean(log["dice_per_class_or_region"][-1]) == pytest.approx(log["mean_fg_dice"][-1])
    cases = json.loads((trained.preprocessed / "splits_final.json").read_text())[0]["val"]
    assert sorted(validation(trained, trainer)["cases"]) == sorted(cases)
    plans = json.loads((fold.parent / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"]
    assert network.endswith("IntraInterClassifier" if "IntraInter" in trainer else "ClassificationNet")


def test_masks_around_a_classifier(trained, tmp_path):
    """The mask agent learns beside the classifier, and a prediction knows nothing of it."""
    checkpoint = load(fold_of(trained, "ShortAPGAClassification"))
    assert set(checkpoint["rl_nnunet"]["agents"]) == {"mask"}
    assert not any("mask" in name for name in checkpoint["network_weights"])
    kept, erased = (checkpoint["logging"][key] for key in ("mask_kept", "mask_erased"))
    assert np.isnan(kept[0])  # the first half of the epochs is without masks
    assert 0 < kept[1] < 1
    assert 0 < erased[1] < 1
    table = tmp_path / "predictions.csv"
    classify(trained, "ShortAPGAClassification", table, "-i", trained.raw / "imagesTr", "-s", trained.raw / "labelsTr")
    rows = {row["case"]: row for row in csv.DictReader(table.open())}
    for case, found in validation(trained, "ShortAPGAClassification")["cases"].items():
        assert rows[case]["prediction"] == found["prediction"]


def test_the_agents_are_trained(trained):
    checkpoint = load(fold_of(trained, "ShortIntraInterClassification"))
    assert set(checkpoint["rl_nnunet"]["agents"]) == {"intra", "inter"}
    log = checkpoint["logging"]
    assert all(0 < log[f"weight_{name}"][-1] < 2 for name in ("T1", "T1ce", "T2", "FLAIR"))
    assert all(np.isfinite(log[f"probability_iteration{t}"]).all() for t in range(4))
    assert checkpoint["optimizer_state"]["param_groups"][0]["initial_lr"] == 1e-4


@pytest.mark.parametrize("trainer", ["ShortClassification", "ShortIntraInterClassification"])
def test_classified_cases_get_the_probabilities_of_the_validation(trained, tmp_path, trainer):
    table = tmp_path / "predictions.csv"
    classify(trained, trainer, table, "-i", trained.raw / "imagesTr", "-s", trained.raw / "labelsTr")
    rows = {row["case"]: row for row in csv.DictReader(table.open())}
    assert len(rows) == 20
    for case, found in validation(trained, trainer)["cases"].items():
        assert rows[case]["prediction"] == found["prediction"]
        for name, probability in found["probabilities"].items():
            assert float(rows[case][f"probability_{name}"]) == pytest.approx(probability, abs=1e-5)
            assert rows[case][f"fold_0_{name}"] == rows[case][f"probability_{name}"]


def test_a_missing_sequence_is_classified_too(trained, tmp_path):
    images, table = tmp_path / "images", tmp_path / "new" / "predictions.csv"
    shutil.copytree(trained.raw / "imagesTs", images)
    for flair in images.glob("*_0003.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(flair) * 0, flair)
    classify(trained, "ShortIntraInterClassification", table, "-i", images, "-s", trained.raw / "labelsTs")
    assert len(list(csv.DictReader(table.open()))) == 2


def test_what_cannot_be_classified_is_refused_in_one_sentence(trained, tmp_path):
    labels, images = tmp_path / "labels", trained.raw / "imagesTs"
    shutil.copytree(trained.raw / "labelsTs", labels)
    empty = sorted(labels.glob("*.nii.gz"))[0]
    sitk.WriteImage(sitk.ReadImage(empty) * 0, empty)
    table = tmp_path / "predictions.csv"
    for flags, sentence in (
        (("-i", images), "has to be segmented first: give the folder of the segmentations with -s"),
        (("-i", images, "-s", labels), "is empty, so that there is no box"),
        (("-i", images, "-s", trained.raw / "labelsTr"), "segment the case"),
    ):
        output = classify(trained, "ShortClassification", table, *flags, code=2)
        assert sentence in output
        assert "Traceback" not in output
        assert not table.exists()
    table.write_text("mine")
    assert "add --overwrite" in classify(trained, "ShortClassification", table, "-i", images, code=2)
    assert table.read_text() == "mine"


@pytest.mark.parametrize("trainer", ["ShortClassification", "ShortIntraInterClassification"])
def test_nnunets_prediction_is_refused_in_one_sentence(trained, tmp_path, trainer):
    output = trained.run(
        "nnUNetv2_predict", "-i", trained.raw / "imagesTs", "-o", tmp_path, "-d", trained.id, "-c", "3d_fullres", "-f",
        "0", "-p", PLANS, "-tr", trainer, "-device", "cpu", "-npp", "1", "-nps", "1", code=1,
    )  # fmt: skip
    assert "Error: This model classifies cases and does not segment them; run rl_nnunet_classify" in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_validation_alone_and_with_the_best_checkpoint(trained, tmp_path):
    summary = fold_of(trained, "ShortClassification") / "validation" / "summary.json"
    before = summary.read_text()
    for flag in ("--val", "--val_best"):
        summary.unlink()
        trained.train("ShortClassification", "--val", *({flag} - {"--val"}), plans=PLANS, **SEED)
        assert summary.is_file()
        if flag == "--val":
            assert summary.read_text() == before


@pytest.mark.parametrize("trainer", ["ShortClassification", "ShortIntraInterClassification", "ShortAPGAClassification"])
def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path, trainer):
    killed = trained.with_results(tmp_path)
    kill_in_epoch_1(killed, trainer, PLANS, **SEED)
    killed.train(trainer, "--c", plans=PLANS, **SEED)
    assert_equal(*(comparable(fold_of(project, trainer)) for project in (killed, trained)))


def test_an_agent_sets_the_augmentation_of_a_classifier(grades, tmp_path):
    """It is rewarded by the balanced accuracy, and a killed and resumed training equals one that was not."""
    trainer = "ShortAugmentationPolicyClassification"
    grades.train(trainer, plans=PLANS, **SEED)
    log = load(fold_of(grades, trainer))["logging"]
    assert log["augmentation_reward"][1] == log["mean_fg_dice"][1] - log["mean_fg_dice"][0]
    killed = grades.with_results(tmp_path)
    kill_in_epoch_1(killed, trainer, PLANS, **SEED)
    killed.train(trainer, "--c", plans=PLANS, **SEED)
    assert_equal(*(comparable(fold_of(project, trainer)) for project in (killed, grades)))
    table = tmp_path / "predictions.csv"
    classify(grades, trainer, table, "-i", grades.raw / "imagesTr", "-s", grades.raw / "labelsTr")
    assert len(list(csv.DictReader(table.open()))) == 20


@pytest.mark.parametrize("trainer", ["ShortClassificationNoInter", "ShortClassificationNoAgents"])
def test_ablation_trains(grades, trainer):
    grades.train(trainer, plans=PLANS)
    agents = load(fold_of(grades, trainer))["rl_nnunet"]["agents"]
    assert set(agents) == ({"intra"} if trainer.endswith("NoInter") else set())


def test_folds_that_cannot_be_trained_are_refused_in_one_sentence(grades):
    file = grades.preprocessed / "splits_final.json"
    folds = json.loads(file.read_text())
    grade = {row.case: row.details["grade"] for row in read_case_table(grades.raw / "cases.csv")}
    one_class = [case for case in folds[0]["val"] if grade[case] == "HGG"]
    file.write_text(json.dumps([{**folds[0], "val": one_class}]))
    try:
        output = grades.train("ShortClassification", plans=PLANS, code=1)
    finally:
        file.write_text(json.dumps(folds))
    assert "Error: No validation case of fold 0 has the class LGG; remove splits_final.json" in output
    assert "Traceback" not in output


def test_plans_of_others_are_refused_in_one_sentence(grades):
    grades.plan("IntraInterSmallPlanner")
    output = grades.train("ShortClassification", plans="IntraInterSmallPlans", code=1)
    assert "classifiers need plans of ClassificationPlanner." in output
    assert "Traceback" not in output
