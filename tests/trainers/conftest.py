"""Paired data, and trainers that start from edited plans, for several test modules."""

import json
from copy import deepcopy

import pytest
import SimpleITK as sitk
import torch
from started import AGENTS_NETWORK, DELETE

from rl_nnunet.case_table import read_case_table
from rl_nnunet.class_table import ClassRow, write_class_table
from rl_nnunet.plans.intra_inter_net import modality_arguments
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


@pytest.fixture(scope="session")
def tumors(tmp_path_factory, make_project):
    """Phantom tumors, of which the second test case lacks FLAIR, planned for the agents' network, by the commands."""
    project = make_project(tmp_path_factory.mktemp("tumors"), "Dataset903_Tumors")
    phantom = project.root / "phantom"
    project.run(
        "rl_nnunet_make_phantom", "brats", "-o", phantom, "--cases", 5, "--test_cases", 2, "--size", 24,
        "--test_labels", "-np", 1,
    )  # fmt: skip
    project.run("rl_nnunet_convert_brats", "-i", phantom, "-d", project.id, "-n", "Tumors", "-np", 1)
    flair = sorted((project.raw / "imagesTs").glob("*_0003.nii.gz"))[1]
    sitk.WriteImage(sitk.ReadImage(flair) * 0, flair)
    project.plan("IntraInterSmallPlanner")
    return project


@pytest.fixture(scope="session")
def grades(tmp_path_factory, make_project):
    """Phantom tumors whose class is their grade, planned by the command; then the cube is made smaller in the plans."""
    project = make_project(tmp_path_factory.mktemp("grades"), "Dataset905_Grades")
    phantom = project.root / "phantom"
    project.run(
        "rl_nnunet_make_phantom", "brats", "--year", 2019, "-o", phantom, "--cases", 20, "--test_cases", 2, "--size",
        24, "--test_labels", "-np", 1,
    )  # fmt: skip
    project.run("rl_nnunet_convert_brats", "-i", phantom, "-d", project.id, "-n", "Grades", "-np", 1)
    rows = [row for row in read_case_table(project.raw / "cases.csv") if row.part == "train"]
    write_class_table(project.raw / "classification.csv", [ClassRow(row.case, row.details["grade"]) for row in rows])
    project.plan("ClassificationSmallPlanner")
    file = project.preprocessed / "ClassificationSmallPlans.json"
    plans = json.loads(file.read_text())
    entry = plans["configurations"]["3d_fullres"]
    entry["patch_size"] = [16] * 3
    arguments = entry["architecture"]["arch_kwargs"]
    arguments["n_stages"] -= 1
    for name in ("features_per_stage", "kernel_sizes", "strides", "n_blocks_per_stage"):
        arguments[name].pop()
    file.write_text(json.dumps(plans))
    return project


@pytest.fixture(scope="session")
def documents(hearts):
    """Per trainer, plans and dataset.json of the hearts; for the agents they are called paired."""
    plans, dataset_json = (
        json.loads((hearts.preprocessed / f"{name}.json").read_text()) for name in ("RLXAlignSmallPlans", "dataset")
    )
    paired, agents_plans = deepcopy(dataset_json), deepcopy(plans)
    paired["rl_nnunet"]["pairing"] = "paired"
    agents_plans["plans_name"] = "IntraInterSmallPlans"
    architecture = agents_plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = AGENTS_NETWORK
    arguments = architecture["arch_kwargs"]
    values = arguments["blank_values"]
    for name in (
        "branches",
        "branch_names",
        "aligned_stages",
        "windows",
        "turnable_axes",
        "carried_stages",
        "branch_dropout",
        "shared_decoder",
        "branch_normalization",
        "xalign",
    ):
        del arguments[name]
    patch_size = agents_plans["configurations"]["3d_fullres"]["patch_size"]
    arguments |= modality_arguments(paired, values, arguments, patch_size)
    return {RLXAlignTrainer: (plans, dataset_json), IntraInterTrainer: (agents_plans, paired)}


@pytest.fixture
def start(documents, in_hearts, tmp_path, monkeypatch):
    """Return a function that edits plans and data set and starts a trainer as nnU-Net does."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_compile", "f")

    def start_edited(trainer, edits=(), configuration="3d_fullres"):
        plans, dataset_json = deepcopy(documents[trainer])
        for where, (*parents, last), value in edits:
            document = {"plans": plans, "dataset": dataset_json}[where]
            for key in parents:
                document = document[key]
            if value is DELETE:
                del document[last]
            else:
                document[last] = value
        started = trainer({**plans, "continue_training": False}, configuration, 0, dataset_json, torch.device("cpu"))
        started.initialize()
        return started

    return start_edited
