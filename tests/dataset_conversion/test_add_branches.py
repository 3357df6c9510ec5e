"""What rl_nnunet_add_branches writes into existing data sets, and what it refuses."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.dataset_conversion.add_branches import main

UNPAIRED = ("--branch", "CT=CT", "--branch", "MRI=MRI", "--pairing", "unpaired")


@pytest.fixture
def existing(write_dataset, unpaired_cases):
    """Return a function that writes an unpaired data set without our key, and returns its folder."""

    def write(cases=unpaired_cases):
        folder = write_dataset("Dataset505_Old", cases, {"CT": ["CT"], "MRI": ["MRI"]})
        change(folder, lambda content: content.pop("rl_nnunet"))
        return folder

    return write


def change(folder, function):
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def add(run, monkeypatch):
    """Return a function that runs the command; nnU-Net's pool of 12 processes that list files is one of threads."""
    from multiprocessing.pool import ThreadPool

    from nnunetv2.utilities import utils

    monkeypatch.setattr(utils, "Pool", ThreadPool)
    return lambda *arguments: run(main, "-d", 505, "-np", 1, *arguments)


@pytest.fixture
def refused(assert_refused_in_one_sentence):
    """Return a function that checks that a command on a folder was refused and changed nothing."""

    def check(folder, command, *fragments):
        before = {path: path.read_bytes() for path in folder.rglob("*.json")}
        assert_refused_in_one_sentence(command(), *fragments)
        assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
        assert not list(folder.glob(".*"))

    return check


def test_unpaired(existing, add):
    folder = existing()
    os.chmod(folder / "dataset.json", 0o640)
    before = json.loads((folder / "dataset.json").read_text())
    outcome = add(*UNPAIRED, "--folds", 2)
    assert outcome.code == 0, outcome.err
    after = json.loads((folder / "dataset.json").read_text())
    assert after.pop("rl_nnunet") == {"branches": {"CT": ["CT"], "MRI": ["MRI"]}, "pairing": "unpaired"}
    assert after == before
    assert (folder / "dataset.json").stat().st_mode & 0o777 == 0o640
    splits = json.loads((folder / "splits_final.json").read_text())
    assert len(splits) == 2
    assert all({name.split("_")[0] for name in split[part]} == {"ct", "mri"} for split in splits for part in split)
    assert "CT: 2 of 4 training cases" in outcome.out
    assert sorted(os.listdir(folder)) == ["dataset.json", "imagesTr", "labelsTr", "splits_final.json"]


def test_paired(existing, add, unpaired_cases):
    full = {name: (np.random.default_rng(0).normal(9, 1, c.shape), s) for name, (c, s) in unpaired_cases.items()}
    folder = existing(full)
    outcome = add("--branch", "both=MRI,CT", "--pairing", "paired")
    assert outcome.code == 0, outcome.err
    layout = layout_from_dataset_json(json.loads((folder / "dataset.json").read_text()))
    assert layout.channels == ((1, 0),)


def test_existing_splits_are_kept(existing, add):
    path = existing() / "splits_final.json"
    good = {"train": ["ct_1", "mri_1"], "val": ["ct_2", "mri_2"]}
    path.write_text(json.dumps([good]))
    assert f"Notice: {path} is kept." in add(*UNPAIRED).out
    path.write_text(json.dumps([good, {"train": ["ct_1", "ct_2"], "val": ["mri_1", "mri_2"]}]))
    assert f"Notice: {path} is kept, but the training part of fold 1 lacks" in add(*UNPAIRED, "--overwrite").out
    assert len(json.loads(path.read_text())) == 2


@pytest.mark.parametrize("content", ["", "3", "[3]", '[{"val": []}]', '[{"train": 5}]', "[" * 100_000])
def test_broken_splits(content, existing, add, refused):
    folder = existing()
    (folder / "splits_final.json").write_text(content)
    refused(folder, lambda: add(*UNPAIRED), folder / "splits_final.json", "is no list of folds")


def test_existing_branches_are_kept_without_overwrite(existing, add, refused):
    folder = existing()
    assert add(*UNPAIRED).code == 0
    refused(folder, lambda: add(*UNPAIRED), "describes branches already", "--overwrite")
    assert add("--branch", "X=CT", "--branch", "Y=MRI", "--pairing", "unpaired", "--overwrite").code == 0
    assert list(json.loads((folder / "dataset.json").read_text())["rl_nnunet"]["branches"]) == ["X", "Y"]


def test_preprocessed_data_must_be_made_anew(existing, add, nnunet_folders):
    folder = existing()
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / folder.name
    preprocessed.mkdir()
    assert "plan and preprocess again (rl_nnunet_plan_and_preprocess -d 505 --clean)" in add(*UNPAIRED).out
    (preprocessed / "splits_final.json").write_text("[]")
    assert f"remove {preprocessed}/splits_final.json, then plan" in add(*UNPAIRED, "--overwrite").out


def test_absent_channel_that_is_air(existing, add, unpaired_cases):
    for name in ("mri_1", "mri_2"):
        unpaired_cases[name][0][0] = -1024
    existing()
    outcome = add(*UNPAIRED)
    assert outcome.code == 0, outcome.err
    assert "Notice: CT is -1024 everywhere in 2 cases, first mri_1: taken as absent" in outcome.out


def test_case_with_both_branches(existing, add, refused, unpaired_cases):
    unpaired_cases["ct_2"][0][1] = np.random.default_rng(1).normal(5, 1, (12, 12, 12))
    refused(existing(), lambda: add(*UNPAIRED), "1 of 4 cases do not have exactly one branch (ct_2 has CT and MRI)")


def test_case_without_branch(existing, add, refused, unpaired_cases):
    unpaired_cases["ct_2"][0][:] = 0
    refused(existing(), lambda: add(*UNPAIRED), "exactly one branch (ct_2 has none); correct the images.")


def test_unpaired_cases_called_paired(existing, add, refused):
    refused(existing(), lambda: add(*UNPAIRED[:-1], "paired"), "use --pairing unpaired")


def test_branch_that_no_case_has(existing, add, refused, unpaired_cases):
    del unpaired_cases["mri_1"], unpaired_cases["mri_2"]
    refused(existing(), lambda: add(*UNPAIRED), "no case has the branch MRI")


def test_single_cases_get_no_splits(existing, add, unpaired_cases):
    del unpaired_cases["mri_1"], unpaired_cases["ct_1"]
    folder = existing()
    outcome = add(*UNPAIRED)
    assert "Notice: there is no splits_final.json" in outcome.out
    assert not (folder / "splits_final.json").exists()


@pytest.mark.parametrize(
    ("branches", "fragment"),
    [
        (["CT=CT"], "must use every channel exactly once"),
        (["CT=CT", "MRI=CT"], "must use every channel exactly once"),
        (["CT=CT", "MRI=MRI,MRI"], "must use every channel exactly once"),
        (["CT=CT", "MRI=mr"], "must use every channel exactly once"),
        (["CT=CT", "MRI=MRI,"], "must use every channel exactly once"),
        (["CT=CT", "CT=MRI"], "CT is given twice"),
        (["CT", "MRI=MRI"], "write NAME=CHANNEL"),
        (["CT=", "MRI=MRI"], "write NAME=CHANNEL"),
        (["=CT", "MRI=MRI"], "write NAME=CHANNEL"),
        (["C T=CT", "MRI=MRI"], "write NAME=CHANNEL"),
    ],
)
def test_malformed_branches(branches, fragment, existing, add, refused):
    given = [word for branch in branches for word in ("--branch", branch)]
    refused(existing(), lambda: add(*given, "--pairing", "unpaired"), fragment)


CHANNELS = ('["CT"]', "{}", '{"1": "A"}', '{"x": "A"}', '{"00": "A"}')
BROKEN = (
    *("", "{", "[]", "null", '"x"', "{}", "[" * 100_000, "\udcff", '{"file_ending": ".nii.gz"}'),
    '{"file_ending": 3, "channel_names": {"0": "CT"}}',
    *(f'{{"file_ending": ".nii.gz", "channel_names": {names}}}' for names in CHANNELS),
)


@pytest.mark.parametrize("content", BROKEN)
def test_broken_dataset_json(content, existing, add, refused):
    folder = existing()
    (folder / "dataset.json").write_text(content, errors="surrogateescape")
    refused(folder, lambda: add(*UNPAIRED), folder / "dataset.json")


def test_key_that_is_there_twice(existing, add, refused):
    """Only the last one would be written back."""
    folder = existing()
    path = folder / "dataset.json"
    path.write_text(path.read_text()[:-1] + ', "labels": {"background": 0, "x": 1}}')
    refused(folder, lambda: add(*UNPAIRED), path, "has the key 'labels' twice")


def test_converted_data_set_can_still_be_replaced(run_mmwhs, run, raw, monkeypatch):
    """The converter's marker lists dataset.json, which the command changes."""
    from multiprocessing.pool import ThreadPool

    from nnunetv2.utilities import utils

    monkeypatch.setattr(utils, "Pool", ThreadPool)
    assert run_mmwhs().code == 0
    assert run(main, "-d", 501, "-np", 1, *UNPAIRED, "--overwrite").code == 0
    assert run_mmwhs("--overwrite").code == 0
    assert run(main, "-d", 501, "-np", 1, *UNPAIRED, "--overwrite").code == 0
    (raw / "Dataset501_MMWHS" / "labelsTr" / "ct_train_1001.nii.gz").write_text("corrected by hand")
    outcome = run_mmwhs("--overwrite")
    assert (outcome.code, "ct_train_1001.nii.gz, which was changed since" in outcome.err) == (2, True)


def test_no_dataset_json(existing, add, refused):
    folder = existing()
    (folder / "dataset.json").unlink()
    refused(folder, lambda: add(*UNPAIRED), f"There is no file {folder / 'dataset.json'}")


def test_no_such_data_set(existing, add, run, refused):
    folder = existing()
    refused(folder, lambda: run(main, "-d", 77, *UNPAIRED), "holds no folder Dataset077_")
    (folder.parent / "Dataset505_Other").mkdir()
    refused(folder, lambda: add(*UNPAIRED), "have the same ID")


def test_truncated_image(existing, add, refused):
    folder = existing()
    path = folder / "imagesTr/ct_1_0000.nii.gz"
    path.write_bytes(b"no image")
    refused(folder, lambda: add(*UNPAIRED), path, "cannot be read")


def test_image_missing(existing, add, refused):
    folder = existing()
    (folder / "imagesTr/ct_1_0001.nii.gz").unlink()
    refused(folder, lambda: add(*UNPAIRED), "The case ct_1 has 1 image files, but dataset.json 2 channels")


@pytest.mark.parametrize("ending", [".nii", ".unknown", ""])
def test_wrong_file_ending(ending, existing, add, refused):
    folder = existing()
    change(folder, lambda content: content.update(file_ending=ending))
    refused(folder, lambda: add(*UNPAIRED), folder, "correct it")


def test_other_axes(existing, add, refused):
    folder = existing()
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5))), str(folder / "imagesTr/ct_1_0001.nii.gz"))
    refused(folder, lambda: add(*UNPAIRED), "ct_1", "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(existing, add, refused):
    folder = existing()
    folder.chmod(0o500)
    try:
        refused(folder, lambda: add(*UNPAIRED), "cannot be written (Permission denied)")
    finally:
        folder.chmod(0o700)


def test_several_scans_of_a_patient(existing, add, refused):
    """Both scans of number 1 are of one patient, and in one part of each fold."""
    folder, given = existing(), ("--branch", "CT=CT", "--branch", "MRI=MRI", "--pairing", "unregistered", "--folds", 2)
    refused(folder, lambda: add(*given), folder / "cases.csv", "which says which scans are of one patient; write it")
    rows = ["case,patient,part", "ct_1,a,train", "mri_1,a,train", "ct_2,b,train", "mri_2,b,train"]
    (folder / "cases.csv").write_text("\n".join(rows[:-1]))
    refused(folder, lambda: add(*given), "does not say whose scan mri_2 is")
    (folder / "cases.csv").write_text("\n".join(rows))
    assert add(*given).code == 0
    assert json.loads((folder / "dataset.json").read_text())["rl_nnunet"]["pairing"] == "unregistered"
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(sorted(split["val"]) for split in splits) == [["ct_1", "mri_1"], ["ct_2", "mri_2"]]
