"""Which scans are of one patient reaches training by rl_nnunet_plan_and_preprocess, with any planner."""

import json

import pytest

from rl_nnunet.case_table import TableRow, write_case_table
from rl_nnunet.planners.plan_and_preprocess import main

NAME = "Dataset001_Unregistered"
CASES = ("ct_1", "ct_2", "mri_1", "mri_2")

pytestmark = pytest.mark.usefixtures("fingerprint_in_threads")


@pytest.fixture
def folder(write_dataset, unpaired_cases):
    return write_dataset(NAME, unpaired_cases, {"CT": ["CT"], "MRI": ["MRI"]}, "unregistered")


def write_table(folder, cases=CASES):
    write_case_table(folder / "cases.csv", [TableRow(case, case[-1], "train", {}) for case in cases])


@pytest.mark.parametrize("planner", ["RLXAlignSmallPlanner", "nnUNetPlannerResEncM"])
def test_the_table_of_cases_is_copied(run, folder, nnunet_folders, planner):
    write_table(folder)
    outcome = run(main, "-d", 1, "-pl", planner, "--no_pbar", "--no_pp", "-gpu_memory_target", 8)
    assert outcome.code == 0, outcome.err
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / NAME
    assert (preprocessed / "cases.csv").read_bytes() == (folder / "cases.csv").read_bytes()
    (plans,) = preprocessed.glob("*Plans.json")
    entries = [entry.get("companions") for entry in json.loads(plans.read_text())["configurations"].values()]
    expected = {"same_patient": 0.75, "placement": "auto"} if planner.startswith("RLX") else None
    assert entries
    assert all(entry == expected for entry in entries)


def test_planning_needs_the_patient_of_every_case(run, folder, assert_refused_in_one_sentence):
    refused = run(main, "-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pp")
    assert_refused_in_one_sentence(refused, folder / "cases.csv", "says which scans are of one patient; convert")
    write_table(folder, CASES[:-1])
    refused = run(main, "-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pp")
    assert_refused_in_one_sentence(refused, folder / "cases.csv", "does not say whose scan mri_2 is")
