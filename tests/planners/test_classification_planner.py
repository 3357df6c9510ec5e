"""``ClassificationPlanner``: the cube and its network, the table of classes and folds; what cannot be planned."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from rl_nnunet.class_table import ClassRow, write_class_table
from rl_nnunet.errors import InputError
from rl_nnunet.planners.classification_planner import ClassificationPlanner, ClassificationSmallPlanner

NAME = "Dataset001_Tumors"
BRANCHES = {"MR": ["T1", "FLAIR"]}
CLASSES = {f"case{number}": "long" if number % 3 else "short" for number in range(9)}


@pytest.fixture
def tumors(write_dataset):
    """Return a function that writes nine cases of two channels, their classes, and entries under our key."""

    def write(shape=(12, 14, 16), labels=CLASSES, pairing="paired", **entries):
        rng, branches = np.random.default_rng(0), BRANCHES if pairing == "paired" else {"A": ["T1"], "B": ["FLAIR"]}
        label = np.zeros(shape, np.uint8)
        label[..., 3:9, 4:9] = 1
        cases = {case: (rng.normal(100, 20, (2, *shape)), label) for case in CLASSES}
        folder = write_dataset(NAME, cases, branches, pairing)
        write_class_table(folder / "classification.csv", [ClassRow(*row) for row in labels.items()])
        described = json.loads((folder / "dataset.json").read_text())
        described["rl_nnunet"] |= entries
        (folder / "dataset.json").write_text(json.dumps(described))
        return folder

    return write


@pytest.fixture
def plan(nnunet_folders):
    """Return a function that plans from a fingerprint, and returns the plans of a configuration and their folder."""

    def plan_with(planner, name, shape=(12, 14, 16)):
        folder = nnunet_folders / "nnUNet_preprocessed" / NAME
        folder.mkdir(exist_ok=True)
        fingerprint = {
            "spacings": [[1.0, 1.0, 1.0]] * 9,
            "shapes_after_crop": [shape] * 9,
            "foreground_intensity_properties_per_channel": {"0": {}, "1": {}},
            "median_relative_size_after_cropping": 1.0,
        }
        (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        planner(NAME).plan_experiment()
        plans = json.loads((folder / f"{planner.default_plans_name}.json").read_text())
        assert list(plans["configurations"]) == [name]
        return plans["configurations"][name], folder

    return plan_with


def build(entry, channels=2):
    architecture = entry["architecture"]
    arguments, needed = architecture["arch_kwargs"], architecture["_kw_requires_import"]
    return get_network_from_plans(architecture["network_class_name"], arguments, needed, channels, 2, True, False)


def test_plans_carry_every_choice_and_build_the_network(tumors, plan):
    tumors(classes=["short", "long"])
    entry, folder = plan(ClassificationSmallPlanner, "3d_fullres")
    assert (entry["patch_size"], entry["batch_size"]) == ([32] * 3, 10)
    assert entry["classification"] == {"crop": "structure", "margin": 5.0}
    arguments = entry["architecture"]["arch_kwargs"]
    assert arguments["class_names"] == ["short", "long"]
    assert arguments["features_per_stage"] == [8, 16, 32, 64, 64]
    with torch.no_grad():
        assert build(entry)(torch.randn(3, 2, *entry["patch_size"])).shape == (3, 2)
    assert (folder / "classification.csv").read_text().startswith("case,label,split\ncase0,short,train\n")


def test_the_paper_s_six_blocks(tumors, plan):
    tumors()
    entry, _ = plan(ClassificationPlanner, "3d_fullres")
    arguments = entry["architecture"]["arch_kwargs"]
    assert entry["patch_size"] == [64] * 3
    assert arguments["features_per_stage"] == [32, 64, 128, 256, 256, 256]
    assert np.prod(arguments["strides"], axis=0).tolist() == [32] * 3


def test_images_of_one_slice_are_planned_in_2d_as_a_whole_if_they_ask_for_it(tumors, plan):
    tumors(shape=(1, 30, 40), crop="image")
    entry, _ = plan(ClassificationSmallPlanner, "2d", (1, 30, 40))
    assert entry["patch_size"] == [32, 32]
    assert entry["classification"]["crop"] == "image"
    with torch.no_grad():
        assert build(entry)(torch.randn(2, 2, 32, 32)).shape == (2, 2)


def test_folds_have_every_class_and_stay_as_they_are(tumors, plan):
    tumors()
    _, folder = plan(ClassificationSmallPlanner, "3d_fullres")
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 3  # as many as the smaller class has cases
    for fold in folds:
        assert all({CLASSES[case] for case in part} == {"short", "long"} for part in fold.values())
    (folder / "splits_final.json").write_text(json.dumps(folds[:2]))
    plan(ClassificationSmallPlanner, "3d_fullres")
    assert json.loads((folder / "splits_final.json").read_text()) == folds[:2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": {**CLASSES, "other": "long"}}, "labels 1 case, first other, but there are no images"),
        ({"labels": dict.fromkeys(CLASSES, "long")}, "all training cases have one class, long"),
        ({"crop": "tumor"}, "crop must be structure or image, not 'tumor'"),
        ({"pairing": "unpaired"}, "is unpaired, but a classifier sees all channels"),
    ],
)
def test_what_cannot_be_classified_is_refused(tumors, plan, options, sentence):
    tumors(**options)
    with pytest.raises(InputError, match=sentence):
        plan(ClassificationPlanner, "3d_fullres")
