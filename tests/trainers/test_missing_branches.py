"""Folds and scans that lack a branch, with real commands on phantom hearts of 24 voxels."""

import json
import shutil

import numpy as np
import pytest
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
