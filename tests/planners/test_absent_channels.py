import numpy as np
import pytest

from rl_nnunet.planners.plan_and_preprocess import main

NAME = "Dataset001_Unpaired"
BRANCHES = {"CT": ["CT"], "MRI": ["MRI"]}
PLAN = ("-d", 1, "-pl", "RLXAlignSmallPlanner", "--no_pbar", "--no_pp")


def statistics(folder):
    import json

    fingerprint = json.loads((folder / "nnUNet_preprocessed" / NAME / "dataset_fingerprint.json").read_text())
    return fingerprint["foreground_intensity_properties_per_channel"], fingerprint["rl_nnunet"]["cases_per_branch"]


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_a_channel_filled_with_air_is_absent_and_said(run, write_dataset, unpaired_cases, nnunet_folders):
    for case in ("mri_1", "mri_2"):
        unpaired_cases[case][0][0] = -1024
    write_dataset(NAME, unpaired_cases, BRANCHES)
    outcome = run(main, *PLAN)
    assert outcome.code == 0
    assert (
        "Notice: the channel CT is -1024 everywhere in 2 cases, first mri_1: taken as absent; fill absent channels "
        "with 0.\n"
    ) in outcome.out
    channels, cases = statistics(nnunet_folders)
    assert channels["0"]["min"] > -200
    assert cases == {"CT": ["ct_1", "ct_2"], "MRI": ["mri_1", "mri_2"]}


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_a_channel_that_is_absent_from_a_branch_that_is_there(run, write_dataset, unpaired_cases, nnunet_folders):
    rng = np.random.default_rng(1)
    cases = {name: (rng.normal(100, 10, (2, 12, 12, 12)), seg) for name, (_, seg) in unpaired_cases.items()}
    cases["ct_2"][0][1] = 0
    write_dataset(NAME, cases, {"Brain": ["T1", "T2"]}, "paired")
    assert run(main, *PLAN).code == 0
    channels, _ = statistics(nnunet_folders)
    assert channels["1"]["min"] > 20


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_unpaired_data_with_pairs_are_said(run, write_dataset, unpaired_cases):
    unpaired_cases["ct_2"][0][1] = unpaired_cases["ct_2"][0][0]
    write_dataset(NAME, unpaired_cases, BRANCHES)
    outcome = run(main, *PLAN)
    assert outcome.code == 0
    assert 'dataset.json says "unpaired", but 1 of 4 cases have several branches, first ct_2' in outcome.out


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_nothing_is_said_of_what_is_as_it_should_be(run, write_dataset, unpaired_cases):
    write_dataset(NAME, unpaired_cases, BRANCHES)
    assert "Notice" not in run(main, *PLAN).out
    assert "Notice" not in run(main, *PLAN).out
