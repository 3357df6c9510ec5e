"""The table of bad inputs for ``rl_nnunet_plan_and_preprocess``: one sentence and exit code 2, nothing planned."""

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.planners.plan_and_preprocess import main

NAME = "Dataset001_Unpaired"


@pytest.fixture
def folder(write_dataset, unpaired_cases):
    return write_dataset(NAME, unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]})


def described(**changes):
    """Return a change of dataset.json: keys to set, or to remove where the value is None."""

    def change(folder):
        content = json.loads((folder / "dataset.json").read_text())
        content.update(changes)
        content = {key: value for key, value in content.items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(content))

    return change


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def removed(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def emptied(name):
    def change(folder):
        shutil.rmtree(folder / name)
        (folder / name).mkdir()

    return change


def copied(source, target):
    return lambda folder: shutil.copy(folder / source, folder / target)


def splits(content, place="nnUNet_raw"):
    def change(folder):
        file = folder.parent.parent / place / NAME / "splits_final.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    return change


ALL = ["ct_1", "ct_2", "mri_1", "mri_2"]
FOLDS = [{"train": ALL[1:], "val": ALL[:1]}]
OTHER_FOLDS = [{"train": ALL[:3], "val": ALL[3:]}]


def both_splits(folder):
    splits(FOLDS)(folder)
    splits(OTHER_FOLDS, "nnUNet_preprocessed")(folder)


LABELS = {
    "consecutive": {"background": 0, "heart": 2},
    "with strings": {"background": 0, "heart": "1"},
    "of version 1": {"0": "background", "1": "heart"},
    "without background": {"heart": 1},
    "with background 1": {"background": 1, "heart": 0},
    "only background": {"background": 0},
    "regions without an order": {"background": 0, "whole": [1, 2], "core": [2]},
    "ignored in between": {"background": 0, "ignore": 1, "heart": 2},
    "a list": ["background", "heart"],
    "negative": {"background": 0, "heart": -1},
    "true": {"background": 0, "heart": True},
    "twice one number": {"background": 0, "heart": 1, "lung": 1},
}
SPLITS = {
    "text": "x",
    "number": 3,
    "object": {"train": [], "val": []},
    "list of lists": [[["ct_1"], ["ct_2"]]],
    "numbers": [{"train": [1], "val": [2]}],
    "without val": [{"train": ["ct_1"]}],
}
DATA = {
    "no JSON": (written("dataset.json", b"{"), "is not valid JSON"),
    "empty JSON file": (written("dataset.json", b""), "is not valid JSON"),
    "bytes": (written("dataset.json", b"\xff\xfe\x00"), "is not valid JSON"),
    "deep JSON": (written("dataset.json", b"[" * 100_000), "is not valid JSON"),
    "list": (written("dataset.json", b"[]"), "must hold an object"),
    "repeated key": (written("dataset.json", b'{"labels": {}, "labels": {}}'), "'labels' twice"),
    "empty object": (written("dataset.json", b"{}"), "lacks labels and channel_names and numTraining and file_ending"),
    **{f"without {key}": (described(**{key: None}), f"lacks {key}") for key in ("labels", "channel_names")},
    **{f"lacking {key}": (described(**{key: None}), f"lacks {key}") for key in ("numTraining", "file_ending")},
    **{f"numTraining {value!r}": (described(numTraining=value), '"numTraining"') for value in (0, -1, "4", 2.5, True)},
    **{f"file_ending {value!r}": (described(file_ending=value), '"file_ending"') for value in ("", ".xyz", "nii", 1)},
    "other file_ending": (described(file_ending=".nrrd"), 'check "file_ending"'),
    **{f"labels {name}": (described(labels=value), '"labels"') for name, value in LABELS.items()},
    "channels out of order": (described(channel_names={"1": "MRI", "0": "CT"}), "numbered 0, 1, 2"),
    "channels a list": (described(channel_names=["CT", "MRI"]), '"channel_names"'),
    "a channel less": (described(channel_names={"0": "CT"}), "channel"),
    "key x": (described(rl_nnunet="x"), '"rl_nnunet" must look like'),
    "key without branches": (described(rl_nnunet={"pairing": "paired"}), '"rl_nnunet" must look like'),
    "pairing unknown": (described(rl_nnunet={"branches": {"A": ["CT", "MRI"]}, "pairing": "x"}), '"pairing"'),
    "no imagesTr": (lambda folder: shutil.rmtree(folder / "imagesTr"), "imagesTr is missing"),
    "empty imagesTr": (emptied("imagesTr"), "holds no image CASE_0000.nii.gz"),
    "no labelsTr": (lambda folder: shutil.rmtree(folder / "labelsTr"), "labelsTr is missing"),
    "empty labelsTr": (emptied("labelsTr"), "lacks the label of 4 of 4 cases, first ct_1.nii.gz"),
    "missing label": (removed("labelsTr/ct_2.nii.gz"), "lacks the label of 1 of 4 cases, first ct_2.nii.gz"),
    "missing channel": (removed("imagesTr/ct_2_0001.nii.gz"), "lacks ct_2_0001.nii.gz"),
    "surplus channel": (copied("imagesTr/ct_2_0001.nii.gz", "imagesTr/ct_2_0002.nii.gz"), "has ct_2_0002.nii.gz"),
    "case without a number": (copied("imagesTr/ct_2_0001.nii.gz", "imagesTr/ct_2.nii.gz"), "is not named CASE_0000"),
    "name that is not UTF-8": (
        copied("imagesTr/ct_2_0001.nii.gz", "imagesTr/b\udcff_0000.nii.gz"),
        "b\\udcff_0000.nii.gz has a name that is not valid UTF-8",
    ),
    "listed nothing": (described(dataset={}), '"dataset" lists no case'),
    "listed wrongly": (described(dataset={"a": {"image": "x"}}), '"dataset" must give'),
    "listed as a list": (described(dataset=["a"]), '"dataset" must give'),
    "listed without a channel": (described(dataset={"a": {"images": ["x"], "label": "y"}}), "lists 1 images"),
    "listed, not there": (described(dataset={"a": {"images": ["x", "y"], "label": "y"}}), "does not exist"),
    **{f"splits: {name}": (splits(value), "is not a list of folds") for name, value in SPLITS.items()},
    "splits of gone cases": (splits([{"train": ["ct_9"], "val": ALL}]), "names 1 case that the data set does not have"),
    "used splits of gone cases": (
        splits([{"train": ["ct_9", "ct_8"], "val": ALL}], "nnUNet_preprocessed"),
        "names 2 cases that the data set does not have, first ct_8",
    ),
    "different splits": (both_splits, "have different folds"),
    "preprocessed data set a file": (
        lambda folder: (folder.parent.parent / "nnUNet_preprocessed" / NAME).write_text(""),
        "cannot be used",
    ),
}
MEMORY = ("-5", "0", "-0", "nan", "inf", "1e-5", "1e30")
ARGUMENTS = {
    **{f"-gpu_memory_target {value}": "-gpu_memory_target takes" for value in MEMORY},
    **{
        f"-overwrite_plans_name {name}": "-overwrite_plans_name takes"
        for name in ("../../x", "/tmp/x", "a/b", ".", "..", ".x", "a__b", "dataset", "splits_final", "ä",
                     "dataset_fingerprint", "x" * 101, "x" * 300)
    },
    **{
        f"-overwrite_target_spacing {value}": "takes three numbers above 0"
        for value in ("nan 1 1", "inf 1 1", "1 1 0", "1 1 -1", "1 1", "1 1 1 1", "x y z")
    },
    "-c 3d_fulres": "There is no configuration '3d_fulres'",
    "-c 2d 2d": "twice",
    "-np 0": "-np and -npfp must be 1 or more",
    "-npfp -1": "-np and -npfp must be 1 or more",
    "-c 2d -np 1 2": "-np takes one number",
    "-pl AgentNetworkPlanner": "There is no ExperimentPlanner called",
    "-pl ../x": "There is no ExperimentPlanner called",
    "-fpe DefaultPreprocessor": "There is no DatasetFingerprintExtractor called",
}  # fmt: skip
ENVIRONMENTS = {
    "nnUNet_preprocessed unset": ({"nnUNet_preprocessed": None}, "nnUNet_preprocessed is not set"),
    "nnUNet_raw empty": ({"nnUNet_raw": ""}, "nnUNet_raw is not set"),
    "nnUNet_raw in quotes": ({"nnUNet_raw": "~/x"}, "does not expand"),
    "nnUNet_raw not UTF-8": ({"nnUNet_raw": "/tmp/\udcff"}, "is not valid UTF-8"),
    "nnUNet_preprocessed a file": ({"nnUNet_preprocessed": __file__}, "is not a folder"),
    "nnUNet_results a file": ({"nnUNet_results": __file__}, "is not a folder"),
    "nnUNet_preprocessed where nothing can be made": ({"nnUNet_preprocessed": "/proc/x"}, "/proc/x"),
    **{
        f"nnUNet_n_proc_DA {value!r}": ({"nnUNet_n_proc_DA": value}, "nnUNet_n_proc_DA=")
        for value in ("0", "", "x", "²")
    },
    **{f"nnUNet_def_n_proc {value!r}": ({"nnUNet_def_n_proc": value}, "nnUNet_def_n_proc=") for value in ("0", "x")},
}


@pytest.fixture
def assert_nothing_planned(nnunet_folders):
    def check():
        files = {file.name for file in (nnunet_folders / "nnUNet_preprocessed").rglob("*") if file.is_file()}
        assert files <= {"splits_final.json", "rl_nnunet_planning.log", NAME}

    return check


@pytest.mark.parametrize(("change", "sentence"), DATA.values(), ids=DATA)
def test_data_sets(run, folder, assert_refused_in_one_sentence, assert_nothing_planned, change, sentence):
    change(folder)
    assert_refused_in_one_sentence(run(main, "-d", 1), sentence)
    assert_nothing_planned()


@pytest.mark.parametrize(("arguments", "sentence"), ARGUMENTS.items(), ids=ARGUMENTS)
@pytest.mark.usefixtures("folder")
def test_arguments(run, assert_refused_in_one_sentence, assert_nothing_planned, arguments, sentence):
    assert_refused_in_one_sentence(run(main, "-d", 1, *arguments.split()), sentence)
    assert_nothing_planned()


@pytest.mark.parametrize(("variables", "sentence"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.usefixtures("folder")
def test_environments(run, monkeypatch, assert_refused_in_one_sentence, variables, sentence):
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert_refused_in_one_sentence(run(main, "-d", 1), sentence)


@pytest.mark.parametrize("identifier", [0, -1, 2, 10**30])
@pytest.mark.usefixtures("folder")
def test_data_sets_that_are_not_there(run, assert_refused_in_one_sentence, identifier):
    assert_refused_in_one_sentence(run(main, "-d", identifier), "There is no data set with the ID")


@pytest.mark.parametrize("arguments", ["", "-d", "-d x", "-d 1.5", "-d 1 -np x", "-d 1 --unknown"])
def test_arguments_that_the_parser_refuses(run, arguments):
    outcome = run(main, *arguments.split())
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "error: " in outcome.err


def image(values, spacing=(1, 1, 1)):
    volume = sitk.GetImageFromArray(values)
    volume.SetSpacing(spacing)
    return volume


def image_file(name, values, spacing=(1, 1, 1)):
    return lambda folder: sitk.WriteImage(image(values, spacing), folder / name)


def cut(folder):
    file = folder / "imagesTr" / "ct_1_0000.nii.gz"
    file.write_bytes(file.read_bytes()[:200])


def all_background(folder):
    for case in ("ct_1", "ct_2"):
        image_file(f"labelsTr/{case}.nii.gz", np.zeros((12, 12, 12), np.uint8))(folder)


def blank_mri(folder):
    for case in ("mri_1", "mri_2"):
        image_file(f"imagesTr/{case}_0001.nii.gz", np.full((12, 12, 12), 7, np.int16))(folder)


CUBE = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
IMAGES = {
    "no image": (written("imagesTr/ct_2_0000.nii.gz", b"x"), "ct_2_0000.nii.gz is not a readable image"),
    "first is no image": (written("imagesTr/ct_1_0000.nii.gz", b"x"), "ct_1_0000.nii.gz is not a readable image"),
    "NaN": (image_file("imagesTr/ct_2_0000.nii.gz", np.where(CUBE > 2, np.nan, CUBE)), "contains NaN or infinity"),
    "label is no image": (written("labelsTr/ct_2.nii.gz", b""), "ct_2.nii.gz is not a readable image"),
    "truncated": (cut, "ct_1_0000.nii.gz is truncated"),
    "channels of two sizes": (image_file("imagesTr/ct_2_0001.nii.gz", CUBE[:6]), "differ in size or spacing"),
    "channels of two spacings": (
        image_file("imagesTr/ct_2_0001.nii.gz", 0 * CUBE, (1, 1, 2)), "differ in size or spacing"
    ),
    "label of another size": (
        image_file("labelsTr/ct_2.nii.gz", np.ones((6, 12, 12), np.uint8)), "has the size 6x12x12, its image"
    ),
    "label of another spacing": (
        image_file("labelsTr/ct_2.nii.gz", np.ones((12, 12, 12), np.uint8), (1, 1, 2)), "has the spacing 2x1x1 mm"
    ),
    "unknown labels": (
        image_file("labelsTr/ct_2.nii.gz", np.arange(1728, dtype=np.uint16).reshape(12, 12, 12)),
        "has labels that dataset.json does not name (2, 3, 4, 5, 6, ...)",
    ),
    "no foreground": (all_background, "The labels of the cases that have the channel CT are all background"),
    "no MRI": (blank_mri, "No case has the branch MRI"),
    "no key": (
        described(rl_nnunet=None),
        "does not say \"unpaired\"; run rl_nnunet_add_branches -d 1 --branch CT=CT --branch MRI=MRI --pairing unpaired",
    ),
    "marked as paired": (
        described(rl_nnunet={"branches": {"X": ["MRI"], "CT": ["CT"]}, "pairing": "paired"}),
        'says "paired"; run rl_nnunet_add_branches -d 1 --branch X=MRI --branch CT=CT --pairing unpaired --overwrite',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), IMAGES.values(), ids=IMAGES)
@pytest.mark.usefixtures("fingerprint_in_threads")
def test_images(run, folder, assert_refused_in_one_sentence, assert_nothing_planned, change, sentence):
    change(folder)
    assert_refused_in_one_sentence(run(main, "-d", 1, "--no_pbar"), sentence)
    assert_nothing_planned()


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_an_image_that_only_nnunet_looks_at(run, folder, assert_refused_in_one_sentence):
    (folder / "imagesTr" / "ct_2_0000.nii.gz").write_bytes(b"x")
    outcome = run(main, "-d", 1, "--no_pbar", "-fpe", "DatasetFingerprintExtractor", "-npfp", 1)
    assert_refused_in_one_sentence(outcome, "nnU-Net cannot read a file of Dataset001_Unpaired", "ct_2_0000.nii.gz")


@pytest.mark.parametrize("spacing", ["1e30 1 1", "1e-30 1 1", "1000 1000 1000", "1e-3 1e-3 1e-3"])
@pytest.mark.usefixtures("fingerprint_in_threads", "folder")
def test_target_spacings_that_leave_nothing_or_too_much(run, assert_refused_in_one_sentence, spacing):
    outcome = run(main, "-d", 1, "--no_pbar", "-overwrite_target_spacing", *spacing.split())
    assert_refused_in_one_sentence(outcome, "of the median case of Dataset001_Unpaired (12 x 12 x 12 at 1 x 1 x 1 mm)")


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_what_the_integrity_check_finds(run, folder, assert_refused_in_one_sentence):
    described(numTraining=5)(folder)
    outcome = run(main, "-d", 1, "--verify_dataset_integrity", "-npfp", 1)
    assert_refused_in_one_sentence(
        outcome, '--verify_dataset_integrity: "Did not find the expected number of training cases (5). Found 4 instead'
    )
    assert "Notice: " in outcome.out
    assert '"numTraining": 5, but there are 4 cases' in outcome.out


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_a_second_planning_beside(run, folder, nnunet_folders, assert_refused_in_one_sentence):
    from rl_nnunet.locks import only_run_in

    preprocessed = nnunet_folders / "nnUNet_preprocessed" / NAME
    preprocessed.mkdir()
    with only_run_in(preprocessed, ""):
        assert_refused_in_one_sentence(run(main, "-d", 1), "Another run is planning Dataset001_Unpaired")
    assert os.listdir(preprocessed) == []
