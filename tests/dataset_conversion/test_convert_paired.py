"""What rl_nnunet_convert_paired writes: sequences on one grid, missing ones, test scans, folds."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.branches import layout_from_dataset_json

SHAPE = (5, 6, 7)
SEQUENCES = ("t1", "t1ce", "t2")


def write(path, array, spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def scan(seed):
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    """Six training cases and one test case of three sequences; labels 10 and 20."""
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 1:3, 1:3] = 10
    label[3, 3, 3] = 20
    for case in [f"train/p{number}" for number in range(6)] + ["test/q1"]:
        for seed, sequence in enumerate(SEQUENCES):
            write(tmp_path / case / f"{sequence}.nii.gz", scan(seed))
        write(tmp_path / case / "seg.nii.gz", label)
    return tmp_path


@pytest.fixture
def arguments(folder):
    """Two branches, one of two sequences."""
    return [
        *("--branch", f"T1w={folder}/train/{{case}}/t1.nii.gz,{folder}/train/{{case}}/t1ce.nii.gz"),
        *("--branch", f"T2w={folder}/train/{{case}}/t2.nii.gz"),
        *("--label", f"{folder}/train/{{case}}/seg.nii.gz", "--labels", "core=10", "edema=20"),
    ]


@pytest.fixture
def tests(folder):
    """The same for the test case, in another order."""
    return [
        *("--test", f"T2w={folder}/test/{{case}}/t2.nii.gz"),
        *("--test", f"T1w={folder}/test/{{case}}/t1.nii.gz,{folder}/test/{{case}}/t1ce.nii.gz"),
    ]


def test_what_is_written(run_paired, arguments, tests, folder, raw, verify):
    outcome = run_paired(*arguments, *tests, "--channels", "T1w=T1,T1ce", "--hold_out", "p5")
    assert outcome.code == 0, outcome.err
    written = raw / "Dataset504_Test"
    dataset_json = json.loads((written / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2w"}
    assert dataset_json["rl_nnunet"] == {
        "branches": {"T1w": ["T1", "T1ce"], "T2w": ["T2w"]},
        "pairing": "paired",
        "orientation": "keep",
    }
    assert dataset_json["labels"] == {"background": 0, "core": 1, "edema": 2}
    assert layout_from_dataset_json(dataset_json).channels == ((0, 1), (2,))
    assert sorted(os.listdir(written / "labelsTr")) == [f"p{n}.nii.gz" for n in range(5)]
    assert sorted(os.listdir(written / "labelsTs")) == ["p5.nii.gz"]
    assert sorted(os.listdir(written / "imagesTs")) == [f"{n}_000{c}.nii.gz" for n in ("p5", "q1") for c in range(3)]
    for channel, sequence in enumerate(SEQUENCES):
        for case, part in (("train/p2", "Tr"), ("test/q1", "Ts")):
            image = written / f"images{part}" / f"{case.split('/')[1]}_000{channel}.nii.gz"
            np.testing.assert_array_equal(array(image), array(folder / case / f"{sequence}.nii.gz"))
    np.testing.assert_array_equal(
        array(written / "labelsTr/p2.nii.gz"), np.searchsorted((0, 10, 20), array(folder / "train/p2/seg.nii.gz"))
    )
    splits = json.loads((written / "splits_final.json").read_text())
    assert sorted(name for split in splits for name in split["val"]) == [f"p{n}" for n in range(5)]
    verify(written)


def test_labels_of_test_scans(run_paired, arguments, tests, folder, raw):
    outcome = run_paired(*arguments, *tests, "--test_label", f"{folder}/test/{{case}}/seg.nii.gz")
    assert outcome.code == 0, outcome.err
    assert os.listdir(raw / "Dataset504_Test/labelsTs") == ["q1.nii.gz"]


def test_missing_sequences(run_paired, arguments, folder, raw, assert_refused):
    (folder / "train/p1/t1ce.nii.gz").unlink()
    for case in ("p2", "p3"):
        (folder / f"train/{case}/t2.nii.gz").unlink()
    refused = run_paired(*arguments)
    assert_refused(
        refused, "case p1 lacks a channel beside", f"{folder}/train/p1/t1ce.nii.gz", "--allow_missing images"
    )
    outcome = run_paired(*arguments, "--allow_missing", "images", "--folds", 3)
    assert outcome.code == 0, outcome.err
    assert "Notice: T1w_1 is missing in 1 of 6 cases, and blank there." in outcome.out
    assert "Notice: T2w is missing in 2 of 6 cases, and blank there." in outcome.out
    images = raw / "Dataset504_Test/imagesTr"
    assert not array(images / "p1_0001.nii.gz").any()
    assert array(images / "p1_0000.nii.gz").any()
    splits = json.loads((raw / "Dataset504_Test/splits_final.json").read_text())
    assert all({"p0", "p1", "p4", "p5"} & set(split["train"]) for split in splits)


def test_case_without_any_sequence(run_paired, arguments, folder, assert_refused):
    for sequence in SEQUENCES:
        (folder / f"train/p1/{sequence}.nii.gz").unlink()
    assert_refused(run_paired(*arguments, "--allow_missing", "images"), folder / "train/p1/seg.nii.gz", "has no image")


def test_sequence_on_another_grid(run_paired, arguments, folder, assert_refused):
    path = folder / "train/p1/t2.nii.gz"
    write(path, scan(1), spacing=(1.0, 1.0, 2.0))
    assert_refused(run_paired(*arguments), path, "spacing differ", "t1.nii.gz")


def test_one_patient_is_written_without_folds(run_paired, arguments, raw):
    outcome = run_paired(*arguments, "--hold_out", *(f"p{n}" for n in range(1, 6)))
    assert "one patient cannot be split into folds" in outcome.out
    assert not (raw / "Dataset504_Test/splits_final.json").exists()


def test_processes_do_not_change_the_result(run_paired, arguments, raw):
    contents = []
    for processes in (1, 2):
        assert run_paired(*arguments, "-np", processes, "--overwrite").code == 0
        files = (raw / "Dataset504_Test").rglob("[!.]*.*")
        contents.append({path.name: path.read_bytes() for path in files if path.is_file()})
    assert contents[0] == contents[1]


MISTAKES = {
    "labels in --branch": (["--branch", "A={d}/{case}/t1.nii.gz:{d}/{case}/seg.nii.gz"], "labels belong to --label"),
    "no name": (["--branch", "{d}/{case}/t1.nii.gz"], "write NAME=IMAGES"),
    "nothing after the comma": (["--branch", "A={d}/{case}/t1.nii.gz,"], "commas between the patterns"),
    "branch twice": (["--branch", "A={d}/{case}/t1.nii.gz", "--branch", "A={d}/{case}/t2.nii.gz"], "given twice"),
    "pattern twice": (["--branch", "A={d}/{case}/t1.nii.gz,{d}/{case}/t1.nii.gz"], "is given twice"),
    "label as image": (["--branch", "A={d}/{case}/seg.nii.gz"], "is given twice"),
    "no placeholder": (["--branch", "A={d}/p1/t1.nii.gz"], "lacks {case}"),
    "test of a part": (
        [
            "--branch",
            "A={d}/{case}/t1.nii.gz",
            "--branch",
            "B={d}/{case}/t2.nii.gz",
            "--test",
            "A={d}/{case}/t1.nii.gz",
        ],
        "give B with 1 image patterns",
    ),
    "test of another branch": (
        ["--branch", "A={d}/{case}/t1.nii.gz", "--test", "A={d}/{case}/t1.nii.gz", "--test", "C={d}/{case}/t2.nii.gz"],
        "give every branch once, A",
    ),
    "test case that is trained": (
        ["--branch", "A={d}/{case}/t1.nii.gz", "--test", "A={d}/{case}/t1.nii.gz"],
        "would both become the case p0",
    ),
    "test label alone": (
        ["--branch", "A={d}/{case}/t1.nii.gz", "--test_label", "{d}/{case}/seg.nii.gz"],
        "there is no --test",
    ),
    "structures in a label map": (
        ["--branch", "A={d}/{case}/t1.nii.gz", "--label", "{d}/{case}/{structure}.nii.gz"],
        "No file matches",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused(mistake, run_paired, folder, assert_refused):
    given, fragment = MISTAKES[mistake]
    given = [text.replace("{d}", f"{folder}/train") for text in given]
    label = [] if "--label" in given else ["--label", f"{folder}/train/{{case}}/seg.nii.gz"]
    assert_refused(run_paired(*given, *label, "--labels", "core=10", "edema=20"), fragment)


def test_real_paired_cardiac_mr(run_paired, real_myops, raw, tmp_path):
    """Three patients of MyoPS 2020."""
    for case in sorted(path.name for path in real_myops.iterdir())[:3]:
        (tmp_path / case).symlink_to(real_myops / case)
    files = f"{tmp_path}/{{case}}/{{case}}"
    branches = [f"{name}={files}_{name}.nii.gz" for name in ("C0", "LGE", "T2")]
    outcome = run_paired(
        *("--branch", branches[0], "--branch", branches[1], "--branch", branches[2]),
        *("--label", f"{files}_gd.nii.gz", "--labels"),
        *("myocardium=200", "left_ventricle=500", "right_ventricle=600", "edema=1220", "scar=2221"),
    )
    assert outcome.code == 0, outcome.err
    assert len(os.listdir(raw / "Dataset504_Test/labelsTr")) == 3
    assert len(os.listdir(raw / "Dataset504_Test/imagesTr")) == 9
