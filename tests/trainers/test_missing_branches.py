"""Folds and scans that lack a branch, with real commands on phantom hearts of 24 voxels."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from checkpoints import load


@pytest.fixture
def hearts_with_split(hearts, copy_raw, tmp_path):
    """Return a function that copies the hearts, with a split of the given validation cases."""

    def copy(is_validation):
        project = copy_raw(hearts, tmp_path)
        shutil.copytree(hearts.preprocessed, project.preprocessed)
        file = project.preprocessed / "splits_final.json"
        cases = sorted(case for part in json.loads(file.read_text())[0].values() for case in part)
        validation = [case for case in cases if is_validation(case)]
        split = {"train": [case for case in cases if case not in validation], "val": validation}
        file.write_text(json.dumps([split] * 5))
        return project

    return copy


def test_training_part_without_a_branch_is_refused(hearts_with_split):
    project = hearts_with_split(lambda case: case.startswith("mr"))
    output = project.train("ShortTrainer", code=1)
    assert "Error: None of the 5 training cases of this fold has the branch MRI; give splits_final.json" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_validation_part_without_a_branch(hearts_with_split):
    project = hearts_with_split(lambda case: case == "ct_train_1001")
    output = project.train("ShortTrainer")
    assert "NOTE: No validation case of fold 0 has the branch MRI: its pseudo Dice is not a number." in output
    fold = project.model("ShortTrainer") / "fold_0"
    log = load(fold)["logging"]
    assert len(log["pseudo_dice_MRI"]) == 2
    assert np.isnan(log["pseudo_dice_MRI"]).all()
    for key in ("pseudo_dice_CT", "val_losses", "mean_fg_dice", "ema_fg_dice", "train_loss_MRI"):
        assert np.isfinite(log[key]).all(), key
    assert (fold / "progress_rl.png").stat().st_size > 0
    summary = json.loads((fold / "validation" / "summary_per_branch.json").read_text())
    assert list(summary) == ["CT"]


@pytest.fixture
def scans_without_a_branch(hearts, tmp_path):
    """Test scans of which one branch is missing: filled with zeros, with the air of a CT, with another constant."""
    folder, scans = tmp_path / "scans", hearts.raw / "imagesTs"
    folder.mkdir()
    for case, absent, fillings in (
        ("mr_test_2001", 0, {"zero": 0, "air": -1024, "constant": 300}),
        ("ct_test_2001", 1, {"zero": 0, "constant": 300}),
    ):
        for name, value in fillings.items():
            image = sitk.ReadImage(scans / f"{case}_000{1 - absent}.nii.gz")
            filled = sitk.GetImageFromArray(np.full(image.GetSize()[::-1], value, np.float32))
            filled.CopyInformation(image)
            sitk.WriteImage(image, folder / f"{case}_{name}_000{1 - absent}.nii.gz")
            sitk.WriteImage(filled, folder / f"{case}_{name}_000{absent}.nii.gz")
    return folder


@pytest.mark.slow
def test_what_an_absent_channel_is_filled_with_does_not_matter(hearts, scans_without_a_branch, tmp_path):
    project = hearts.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train("ShortAdamW", RL_NNUNET_SEED="0")
    predictions = tmp_path / "predictions"
    output = project.run(
        "nnUNetv2_predict", "-i", scans_without_a_branch, "-o", predictions, "-d", project.id, "-c", "3d_fullres", "-f",
        "0", "-p", "RLXAlignSmallPlans", "-tr", "ShortAdamW", "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    for case, names in (("mr_test_2001", ("air", "constant")), ("ct_test_2001", ("constant",))):
        label = sitk.GetArrayFromImage(sitk.ReadImage(project.raw / "labelsTs" / f"{case}.nii.gz"))
        zero = sitk.GetArrayFromImage(sitk.ReadImage(predictions / f"{case}_zero.nii.gz"))
        # Trained enough to be misled: an empty prediction would be equal to any other.
        assert 2 * ((zero > 0) & (label > 0)).sum() / ((zero > 0).sum() + (label > 0).sum()) > 0.3
        for name in names:
            filled = sitk.GetArrayFromImage(sitk.ReadImage(predictions / f"{case}_{name}.nii.gz"))
            np.testing.assert_array_equal(filled, zero, err_msg=f"{case}_{name}")
    assert output.count("Channel 0 (CT) is constant in a patch where others vary") == 1
    assert "fill the image with zeros" in output
