"""Cross-validation: folds that are appended once, runs that are done or go on, baselines, the table; no network."""

import json
import os
import stat
import sys

import numpy as np
import pandas as pd
import pytest

from rl_nnunet.class_table import ClassLabels, ClassRow, write_class_table
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation import cross_validation as steps
from rl_nnunet.evaluation.cross_validate import main

CLASSES = ClassLabels(("short", "long"), {f"case{i:02d}": i % 2 for i in range(20)})
NNUNETS = [{"train": ["case00"], "val": ["case01"]}]


@pytest.fixture
def study(nnunet_folders):
    """A data set that is planned, with a fold of nnU-Net's."""
    study = steps.Study("Dataset001_Own", "3d_fullres", "ClassificationPlans", ("Trainer",), "cpu")
    for folder in (study.preprocessed / "data", study.raw):
        folder.mkdir(parents=True)
    for case in CLASSES.labels:
        (study.preprocessed / "data" / f"{case}.pkl").touch()
    rows = [ClassRow(case, CLASSES.names[label]) for case, label in CLASSES.labels.items()]
    write_class_table(study.preprocessed / "classification.csv", rows)
    described = {"channel_names": {"0": "CT"}, "rl_nnunet": {"classes": list(CLASSES.names)}}
    (study.preprocessed / "dataset.json").write_text(json.dumps(described))
    plans = {"configurations": {"3d_fullres": {"data_identifier": "data"}}}
    (study.preprocessed / "ClassificationPlans.json").write_text(json.dumps(plans))
    (study.preprocessed / "splits_final.json").write_text(json.dumps(NNUNETS))
    return study


def splits(study):
    return json.loads((study.preprocessed / "splits_final.json").read_text())


def test_folds_are_appended_once(study):
    assert study.classes() == CLASSES
    assert steps.prepare_folds(study, CLASSES, 4) == [1, 2, 3, 4]
    made = splits(study)
    assert made[0] == NNUNETS[0]
    assert sorted(case for fold in made[1:] for case in fold["test"]) == sorted(CLASSES.labels)
    assert steps.prepare_folds(study, CLASSES, 4) == [1, 2, 3, 4]
    assert splits(study) == made
    assert steps.prepare_folds(study, CLASSES, 3) == [5, 6, 7]


def test_folds_of_other_cases_are_refused(study):
    steps.prepare_folds(study, CLASSES, 4)
    fewer = ClassLabels(CLASSES.names, dict(list(CLASSES.labels.items())[:18]))
    with pytest.raises(InputError, match="are not of the cases as they are now"):
        steps.prepare_folds(study, fewer, 4)


@pytest.fixture
def command(study, tmp_path, monkeypatch):
    """Return a function that puts a program in the place of nnUNetv2_train, which notes the words it is given."""

    def install(script):
        file = tmp_path / "bin" / "nnUNetv2_train"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n{script}\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        python = file.with_name("python")  # of which the trainings are started, as "python -m MODULE COMMAND"
        python.write_text(f'#!/bin/sh\nshift 2\nexec "{file.parent}/$@"\n')
        python.chmod(file.stat().st_mode)
        monkeypatch.setattr(sys, "executable", str(python))
        return lambda: (tmp_path / "calls").read_text().splitlines()

    return install


def write_result(study, fold, **metrics):
    file = study.fold_folder("Trainer", fold) / "test" / "summary.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"metrics": {**dict.fromkeys(steps.MEANS, 0.5), **metrics}}))


def test_what_is_trained_is_not_trained_again_and_what_was_killed_goes_on(study, command):
    results = os.environ["nnUNet_results"]
    folder = f"{results}/Dataset001_Own/Trainer__ClassificationPlans__3d_fullres/fold_$3/test"
    calls = command(f'mkdir -p {folder} && echo "{{\\"metrics\\": {{}}}}" > {folder}/summary.json')
    write_result(study, 1)
    study.fold_folder("Trainer", 3).mkdir()
    (study.fold_folder("Trainer", 3) / "checkpoint_latest.pth").touch()
    steps.train_all(study, [1, 2, 3], 2, allow_tqdm=False)
    flags = "-tr Trainer -p ClassificationPlans -device cpu --val_best"
    assert sorted(calls()) == [f"Dataset001_Own 3d_fullres {fold} {flags}{' --c' * (fold == 3)}" for fold in (2, 3)]


def test_a_failed_training_says_what_it_said(study, command):
    command("echo one\necho 'Error: No GPU; get one.' >&2\nexit 1")
    with pytest.raises(InputError, match="The training of fold 2 by Trainer failed; it said at last: No GPU; get one."):
        steps.train_all(study, [2], 1, allow_tqdm=False)


def test_baselines(monkeypatch):
    """The most frequent class of the training cases, and a feature that tells the classes apart."""
    monkeypatch.setattr("rl_nnunet.evaluation.radiomics.TREES", 10)
    labels = {f"case{i:02d}": int(i % 3 == 0) for i in range(30)}
    classes = ClassLabels(("often", "rarely"), labels)
    folds = steps.nested_folds(labels, classes.names, 3)
    noise = np.random.default_rng(0).normal(0, 0.1, 30)
    features = pd.DataFrame({"volume": list(labels.values()) + noise}, index=list(labels))
    results = steps.results_of_baselines(classes, folds, features)
    assert {name: len(values) for name, values in results.items()} == dict.fromkeys(results, 3)
    assert [fold["accuracy"] for fold in results["most frequent class"]] == pytest.approx([20 / 30] * 3, abs=0.1)
    assert all(fold["balanced_accuracy"] == 0.5 for fold in results["most frequent class"])
    assert all(fold["balanced_accuracy"] == 1 for fold in results["radiomics, SVC"])


def test_the_table_has_means_and_deviations():
    folds = [{**dict.fromkeys(steps.MEANS, 0.5), "accuracy": a, "auc": None} for a in (0.4, 0.6)]
    row = steps.format_table({"One": folds}).splitlines()[-1]
    assert row.startswith("| One | 0.500 ± 0.141 | 0.500 ± 0.000 |")
    assert row.endswith("| – |")


def test_the_command_writes_the_table(run, study, tmp_path):
    for fold in (1, 2):
        write_result(study, fold, accuracy=0.25 * fold)
    words = ("-d", "1", "-c", "3d_fullres", "-k", 2, "-o", tmp_path / "out", "-device", "cpu", "--no_baselines")
    outcome = run(main, *words, "-tr", "Trainer", "--disable_progress_bar")
    assert outcome.code == 0, outcome.err
    assert "| Trainer | 0.375 ± 0.177 |" in outcome.out
    assert "| Trainer | 0.375 ± 0.177 |" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")


def test_a_data_set_that_is_not_there_is_refused(run, nnunet_folders, tmp_path, assert_refused_in_one_sentence):
    outcome = run(main, "-d", "9", "-c", "3d_fullres", "-o", tmp_path / "out", "-device", "cpu")
    assert_refused_in_one_sentence(outcome, "-d 9: there is no data set")
