"""The workflow on paired data: phantom tumors of 24 voxels, regions, missing sequences, both kinds of trainers."""

import itertools
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from checkpoints import assert_equal, comparable, kill_in_epoch_1, load

SEED = {"RL_NNUNET_SEED": "3"}
INTRA_INTER, RL_XALIGN = "IntraInterSmallPlans", "RLXAlignSmallPlans"
SEQUENCES = ("T1", "T1ce", "T2", "FLAIR")


@pytest.fixture(scope="module")
def trained(tumors):
    tumors.train("ShortIntraInter", plans=INTRA_INTER, **SEED)
    return tumors


def test_training_writes_what_nnunet_and_we_promise(trained):
    fold = trained.model("ShortIntraInter", INTRA_INTER) / "fold_0"
    for name in ("progress.png", "progress_rl.png", "checkpoint_best.pth", "checkpoint_final.pth"):
        assert (fold / name).stat().st_size > 0
    checkpoint = load(fold)
    assert set(checkpoint["rl_nnunet"]) == {"agents", "extra", "random_state"}
    backbone = checkpoint["optimizer_state"]["param_groups"][0]
    assert (backbone["initial_lr"], backbone["weight_decay"]) == (1e-4, 1e-5)  # the paper's, not nnU-Net's
    log = checkpoint["logging"]
    keys = [*(f"weight_{name}" for name in SEQUENCES), "reward_iteration1", "probability_iteration0", "intra_spread"]
    assert all(len(log[key]) == 2 for key in keys)
    assert all(0 < log[f"weight_{name}"][-1] < 2 for name in SEQUENCES)
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert len(summary["mean"]) == 3


def test_predictions_have_exactly_the_label_set_of_brats(trained):
    """Also of the case without FLAIR; through nnU-Net's prediction and back."""
    predictions, back = trained.root / "predictions", trained.root / "for_brats"
    trained.predict("ShortIntraInter", predictions, plans=INTRA_INTER)
    trained.run("rl_nnunet_convert_brats_predictions", "-i", predictions, "-o", back, "-np", 1)
    cases = sorted(path.name for path in (trained.raw / "labelsTs").glob("*.nii.gz"))
    assert sorted(path.name for path in back.glob("*.nii.gz")) == cases
    for case in cases:
        segmentation, label = (sitk.ReadImage(folder / case) for folder in (back, trained.raw / "labelsTs"))
        assert set(np.unique(sitk.GetArrayViewFromImage(segmentation))) <= {0, 1, 2, 4}
        assert segmentation.GetSize() == label.GetSize()
        np.testing.assert_allclose(segmentation.GetOrigin(), label.GetOrigin(), atol=1e-5)


def write_with_blank_files(images, folder):
    """Write every case once per subset, the other channels as files of zeros; return the boxes that are cropped to."""
    folder.mkdir()
    boxes = {}
    for path in sorted(images.glob("*_0000.nii.gz")):
        case = path.name.removesuffix("_0000.nii.gz")
        scans = {name: sitk.ReadImage(images / f"{case}_{i:04d}.nii.gz") for i, name in enumerate(SEQUENCES)}
        for subset in itertools.chain(*(itertools.combinations(SEQUENCES, size) for size in range(1, 5))):
            for channel, (name, scan) in enumerate(scans.items()):
                file = folder / f"{case}.{'+'.join(subset)}_{channel:04d}.nii.gz"
                sitk.WriteImage(scan if name in subset else scan * 0, file)
            shown = np.nonzero(sum(sitk.GetArrayFromImage(scans[name]) != 0 for name in subset))
            if len(shown[0]):
                boxes.setdefault(case, set()).add(tuple((axis.min(), axis.max()) for axis in shown))
    return boxes


def test_subsets_equal_predictions_of_blank_files(trained, tmp_path):
    """Voxel by voxel, by the stock command."""
    images, blank, stock, ours = (tmp_path / name for name in ("images", "blank", "stock", "ours"))
    shutil.copytree(trained.raw / "imagesTs", images)
    for path in images.glob("*_0001.nii.gz"):
        scan = sitk.ReadImage(path)
        scan[:, :, :9] = 0
        sitk.WriteImage(scan, path)
    boxes = write_with_blank_files(images, blank)
    assert len(boxes) == 2
    assert all(len(of_case) > 1 for of_case in boxes.values())  # to preprocess once would not do
    words = (
        "-d", trained.id, "-c", "3d_fullres", "-f", "0", "-p", INTRA_INTER, "-tr", "ShortIntraInter", "-device", "cpu",
        "--disable_tta",
    )  # fmt: skip
    trained.run("nnUNetv2_predict", "-i", blank, "-o", stock, "-npp", "1", "-nps", "1", *words)
    output = trained.run(
        "rl_nnunet_evaluate_subsets", "-i", images, "-r", trained.raw / "labelsTs", "-o", ours, "--save_predictions",
        "--erase", "enhancing_tumor=20", *words,
    )  # fmt: skip
    assert "| ● | ● | ○ | ○ |" in output
    compared = list((ours / "predictions").glob("*/*.nii.gz"))
    assert len(compared) == 2 * 15 - 1  # one case lacks FLAIR, and has nothing to predict from where only that is left
    different = set()
    for path in compared:
        case = path.name.removesuffix(".nii.gz")
        pair = [sitk.ReadImage(path), sitk.ReadImage(stock / f"{case}.{path.parent.name}.nii.gz")]
        voxels, expected = map(sitk.GetArrayFromImage, pair)
        np.testing.assert_array_equal(voxels, expected)
        np.testing.assert_allclose(pair[0].GetOrigin(), pair[1].GetOrigin())
        different.add(voxels.tobytes())
    assert len(different) > 15  # they do depend on the subset


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path):
    killed = trained.with_results(tmp_path)
    kill_in_epoch_1(killed, "ShortIntraInter", INTRA_INTER, **SEED)
    killed.train("ShortIntraInter", "--c", plans=INTRA_INTER, **SEED)
    folds = [project.model("ShortIntraInter", INTRA_INTER) / "fold_0" for project in (killed, trained)]
    assert_equal(*(comparable(fold) for fold in folds))


def test_unpaired_data_are_refused_in_one_sentence(hearts):
    with hearts.start(
        "nnUNetv2_train", hearts.id, "3d_fullres", "0", "-p", "RLXAlignSmallPlans", "-tr", "ShortIntraInter",
        "-device", "cpu",
    ) as process:  # fmt: skip
        output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Error: The data set is unpaired" in output
    assert "Traceback" not in output


def assert_predicts(project, trainer, output, plans):
    project.predict(trainer, output, plans=plans)
    assert len(list(output.glob("*.nii.gz"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ShortNoInter", "ShortNoAgents", "ShortIntraInterSGD"])
def test_ablation_trains_and_predicts(tumors, tmp_path, trainer):
    project = tumors.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train(trainer, plans=INTRA_INTER)
    assert_predicts(project, trainer, tmp_path / "predictions", INTRA_INTER)


@pytest.mark.slow
def test_selection_agent_predicts_and_goes_on_after_a_kill(tumors, tmp_path):
    folds = []
    for name in ("whole", "killed"):
        project = tumors.with_results(tmp_path / name)
        if name == "killed":
            kill_in_epoch_1(project, "ShortSelection", INTRA_INTER, **SEED)
        project.train("ShortSelection", *(["--c"] if name == "killed" else []), plans=INTRA_INTER, **SEED)
        folds.append(project.model("ShortSelection", INTRA_INTER) / "fold_0")
    assert_predicts(project, "ShortSelection", tmp_path / "predictions", INTRA_INTER)
    assert len(load(folds[0])["rl_nnunet"]["agents"]["selection"]["memory"]["rewards"]) > 0
    assert_equal(*(comparable(fold) for fold in folds))


@pytest.mark.slow
def test_rl_xalign_on_regions_with_a_missing_sequence(tumors, tmp_path):
    tumors.plan("RLXAlignSmallPlanner")
    project = tumors.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train("ShortTrainer")
    fold = project.model("ShortTrainer") / "fold_0"
    assert set(json.loads((fold / "validation" / "summary_per_branch.json").read_text())) == {"T1w+T2w"}
    assert_predicts(project, "ShortTrainer", tmp_path / "predictions", RL_XALIGN)


@pytest.mark.slow
def test_agents_on_stock_plans(tumors, copy_raw, tmp_path):
    project = copy_raw(tumors, tmp_path)
    project.run("nnUNetv2_plan_and_preprocess", "-d", project.id, "-c", "3d_fullres", "-npfp", 1, "-np", 1)
    output = project.train("ShortIntraInter", plans="nnUNetPlans")
    assert (
        "NOTE: The plans are nnUNetPlans, which know no modalities. Derived: an encoder for each of T1, T1ce" in output
    )
    assert_predicts(project, "ShortIntraInter", tmp_path / "predictions", "nnUNetPlans")
