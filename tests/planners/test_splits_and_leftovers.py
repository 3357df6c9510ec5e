"""What earlier runs left in ``nnUNet_preprocessed``: folds, labels, data of other cases, half plans, the cascade."""

import inspect
import json
import os
import shutil

import pytest
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from rl_nnunet.errors import InputError
from rl_nnunet.planners.plan_and_preprocess import Dataset, main, nnunet_output
from rl_nnunet.planners.preprocessed_data import remove_old_labels, say_old_data

NAME = "Dataset001_Unpaired"
PLAN = ("-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pbar", "--no_pp")


@pytest.fixture
def folder(write_dataset, unpaired_cases):
    return write_dataset(NAME, unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]})


@pytest.fixture
def preprocessed(nnunet_folders):
    folder = nnunet_folders / "nnUNet_preprocessed" / NAME
    folder.mkdir()
    return folder


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_cases_in_no_fold_are_named(run, folder):
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["ct_1", "mri_1"], "val": ["ct_2"]}]))
    outcome = run(main, *PLAN)
    assert outcome.code == 0
    assert "Notice: 1 case of the data set, first mri_2, is in no fold of " in outcome.out


@pytest.mark.usefixtures("fingerprint_in_threads", "folder")
def test_planning_prints_its_table_and_not_what_nnunet_prints(run, preprocessed):
    quiet = run(main, *PLAN)
    assert "2D U-Net configuration" not in quiet.out
    assert "2D U-Net configuration" in (preprocessed / "rl_nnunet_planning.log").read_text()
    assert len(quiet.out.strip().splitlines()) == 6
    assert "2D U-Net configuration" in run(main, *PLAN, "--verbose").out


@pytest.mark.usefixtures("fingerprint_in_threads", "folder")
def test_half_plans_of_a_killed_run_are_replaced(run, preprocessed):
    (preprocessed / "RLXAlignSmallPlans.json").write_text('{"configurations": {')
    outcome = run(main, *PLAN)
    assert outcome.code == 0
    assert "RLXAlignSmallPlans.json is not valid JSON, as a killed run may leave it; it is called" in outcome.out
    assert "2d" in json.loads((preprocessed / "RLXAlignSmallPlans.json").read_text())["configurations"]


@pytest.mark.usefixtures("fingerprint_in_threads", "folder")
def test_a_configuration_that_was_not_planned(run, preprocessed, assert_refused_in_one_sentence):
    outcome = run(main, "-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pbar", "-c", "2d", "3d_lowres")
    assert_refused_in_one_sentence(outcome, "has no configuration 3d_lowres, only 2d, 3d_fullres")
    assert not list(preprocessed.glob("RLXAlignSmallPlans_*"))


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_a_case_that_is_gone_is_gone_without_clean(run, folder, preprocessed):
    assert run(main, *PLAN).code == 0
    for file in folder.rglob("mri_2*"):
        file.unlink()
    outcome = run(main, *PLAN)
    assert outcome.code == 0
    assert "are not those of its fingerprint: 1 gone (first mri_2). Extracting it anew." in outcome.out
    assert '"numTraining": 4, but there are 3 cases' in outcome.out
    fingerprint = json.loads((preprocessed / "dataset_fingerprint.json").read_text())
    assert len(fingerprint["shapes_after_crop"]) == 3
    assert fingerprint["rl_nnunet"]["cases_per_branch"]["MRI"] == ["mri_1"]


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_fingerprint_of_nnunets_own_extractor_is_never_old(run, folder, preprocessed):
    words = [*PLAN, "-fpe", "DatasetFingerprintExtractor"]
    assert run(main, *words).code == 0
    for file in folder.rglob("mri_2*"):
        file.unlink()
    assert run(main, *words).code == 0
    assert len(json.loads((preprocessed / "dataset_fingerprint.json").read_text())["shapes_after_crop"]) == 3


@pytest.mark.parametrize("method", [DatasetFingerprintExtractor.run, DefaultPreprocessor.run])
def test_what_nnunet_says_of_killed_workers_becomes_a_sentence(preprocessed, method):
    """Its text is all that tells this error from others."""
    assert "6 feet under" in inspect.getsource(method)
    dataset = Dataset(1, NAME, {})
    with pytest.raises(InputError, match="worker process was killed, .* smaller -np"):
        fail_under(dataset, RuntimeError("Some background worker is 6 feet under. Yuck."))
    with pytest.raises(RuntimeError, match="another"):
        fail_under(dataset, RuntimeError("another"))


def fail_under(dataset, error):
    with nnunet_output(dataset, "-np", verbose=False):
        raise error


def fingerprint(spacing, shape):
    statistics = {"mean": 100.0, "std": 50.0, "percentile_00_5": -50.0, "percentile_99_5": 250.0}
    return {
        "spacings": [spacing] * 4,
        "shapes_after_crop": [shape] * 4,
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": statistics, "1": statistics},
    }


@pytest.mark.usefixtures("folder")
def test_the_cascade_is_not_planned(preprocessed):
    from rl_nnunet.planners.rl_xalign_planner import RLXAlignSmallPlanner

    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint([1.0] * 3, [200] * 3)))
    older = {"configurations": {"3d_cascade_fullres": {"inherits_from": "3d_fullres"}, "mine": {"inherits_from": "2d"}}}
    (preprocessed / "RLXAlignSmallPlans.json").write_text(json.dumps(older))
    RLXAlignSmallPlanner(1).plan_experiment()
    plans = json.loads((preprocessed / "RLXAlignSmallPlans.json").read_text())["configurations"]
    assert set(plans) == {"2d", "3d_lowres", "3d_fullres", "mine"}
    assert "next_stage" not in plans["3d_lowres"]


def test_labels_that_are_not_those_of_the_data_are_removed(folder, preprocessed):
    copies = preprocessed / "gt_segmentations"
    shutil.copytree(folder / "labelsTr", copies)
    shutil.copy(copies / "ct_1.nii.gz", copies / "ct_9.nii.gz")
    (copies / "ct_2.nii.gz").write_bytes(b"another, and newer than the label")
    labels = {case: folder / "labelsTr" / f"{case}.nii.gz" for case in ("ct_1", "ct_2", "mri_1", "mri_2")}
    remove_old_labels(preprocessed, labels, ".nii.gz")
    assert sorted(os.listdir(copies)) == ["ct_1.nii.gz", "mri_1.nii.gz", "mri_2.nii.gz"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (["ct_1", "ct_2"], None),
        (["ct_1"], "1 missing, first ct_2"),
        (["ct_1", "ct_2", "ct_3"], "1 too many, first ct_3"),
        ([], None),
    ],
)
def test_preprocessed_data_of_other_cases(preprocessed, tmp_path, capsys, there, said):
    plans = {"configurations": {"2d": {"data_identifier": "Plans_2d"}}}
    (preprocessed / "Plans.json").write_text(json.dumps(plans))
    (preprocessed / "Plans_2d").mkdir()
    raw = tmp_path / "scan.nii.gz"
    raw.write_text("")
    for case in there:
        (preprocessed / "Plans_2d" / f"{case}.pkl").write_text("")
    say_old_data(preprocessed, {"ct_1": [raw], "ct_2": [raw]})
    out = capsys.readouterr().out
    assert (said in out and "Notice: " in out) if said else out == ""


def test_preprocessed_data_older_than_their_files(preprocessed, tmp_path, capsys):
    (preprocessed / "Plans.json").write_text(json.dumps({"configurations": {"2d": {"data_identifier": "Plans_2d"}}}))
    (preprocessed / "Plans_2d").mkdir()
    (preprocessed / "Plans_2d" / "ct_1.pkl").write_text("")
    os.utime(preprocessed / "Plans_2d" / "ct_1.pkl", (0, 0))
    (tmp_path / "scan.nii.gz").write_text("")
    say_old_data(preprocessed, {"ct_1": [tmp_path / "scan.nii.gz"]})
    assert "1 older than their files, first ct_1" in capsys.readouterr().out
