"""Labels of the general converters: values per branch, and one mask file per structure."""

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.dataset_conversion.label_options import name_labels, value_scheme

SHAPE = (5, 6, 7)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def cube(start, value=1, dtype=np.uint8):
    mask = np.zeros(SHAPE, dtype)
    mask[start : start + 2, start : start + 2, start : start + 2] = value
    return mask


@pytest.fixture
def folder(tmp_path):
    """CT with masks, as TotalSegmentator writes them, MR with label maps; the left ventricle at 1, the wall at 2."""
    for case in ("p1", "p2", "p3"):
        image = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16)
        write(tmp_path / f"ct/{case}/ct.nii.gz", image)
        write(tmp_path / f"ct/{case}/segmentations/heart_ventricle_left.nii.gz", cube(1))
        write(tmp_path / f"ct/{case}/segmentations/heart_myocardium.nii.gz", cube(2, 255))
        write(tmp_path / f"ct/{case}/segmentations/heart_atrium_left.nii.gz", cube(3, 1.0, np.float32))
        write(tmp_path / f"mr/{case}.nii.gz", image)
        write(tmp_path / f"mr/{case}_label.nii.gz", np.maximum(cube(0, 500, np.int16), cube(3, 200, np.int16)))
    return tmp_path


@pytest.fixture
def ct(folder):
    return ["--branch", f"CT={folder}/ct/{{case}}/ct.nii.gz:{folder}/ct/{{case}}/segmentations/{{structure}}.nii.gz"]


@pytest.fixture
def mr(folder):
    return ["--branch", f"MR={folder}/mr/{{case}}.nii.gz:{folder}/mr/{{case}}_label.nii.gz"]


MASKS = ["--labels", "ventricle=heart_ventricle_left", "myocardium=heart_myocardium", "atrium=heart_atrium_left"]


def test_masks_become_a_label_map(run_unpaired, ct, raw):
    outcome = run_unpaired(*ct, *MASKS)
    assert outcome.code == 0, outcome.err
    expected = np.where(cube(3), 3, np.where(cube(2), 2, cube(1)))
    for case in ("p1", "p2", "p3"):
        np.testing.assert_array_equal(array(raw / f"Dataset502_Test/labelsTr/CT_{case}.nii.gz"), expected)
    notice = "fewer than 10 voxels lie in several masks and get the later label: CT_p1, CT_p2, CT_p3."
    assert f"Notice: {notice}" in outcome.out


def test_masks_that_are_joined(run_unpaired, ct, raw):
    outcome = run_unpaired(*ct, "--labels", "heart=heart_ventricle_left,heart_myocardium")
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(array(raw / "Dataset502_Test/labelsTr/CT_p1.nii.gz"), cube(1) | cube(2))
    assert "several masks" not in outcome.out


def test_masks_of_paired_cases(run_paired, folder, raw):
    masks = f"{folder}/ct/{{case}}/segmentations/{{structure}}.nii.gz"
    outcome = run_paired("--branch", f"CT={folder}/ct/{{case}}/ct.nii.gz", "--label", masks, *MASKS)
    assert outcome.code == 0, outcome.err
    assert np.unique(array(raw / "Dataset504_Test/labelsTr/p1.nii.gz")).tolist() == [0, 1, 2, 3]


def test_values_of_a_branch(run_unpaired, ct, mr, raw):
    outcome = run_unpaired(*ct, *mr, *MASKS, "--labels_of", "MR", "myocardium=200", "ventricle=500")
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(array(raw / "Dataset502_Test/labelsTr/MR_p1.nii.gz"), np.where(cube(3), 2, cube(0)))
    assert np.unique(array(raw / "Dataset502_Test/labelsTr/CT_p1.nii.gz")).tolist() == [0, 1, 2, 3]
    assert "Notice: atrium count as background in MR, as --labels_of does not name them." in outcome.out


def test_masks_of_one_branch_only(run_unpaired, ct, mr, raw):
    own = ["--labels_of", "CT", "ventricle=heart_ventricle_left", "myocardium=heart_myocardium"]
    outcome = run_unpaired(*ct, *mr, "--labels", "myocardium=200", "ventricle=500", *own)
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(array(raw / "Dataset502_Test/labelsTr/CT_p1.nii.gz"), np.where(cube(1), 2, cube(2)))


def test_missing_mask(run_unpaired, ct, folder, assert_refused, raw):
    path = folder / "ct/p2/segmentations/heart_atrium_left.nii.gz"
    path.unlink()
    assert_refused(run_unpaired(*ct, *MASKS), f"case p2 lacks the mask {path}", "--allow_missing masks")
    outcome = run_unpaired(*ct, *MASKS, "--allow_missing", "masks")
    assert "Notice: atrium has no mask in 1 of 3 cases, and is taken for absent there." in outcome.out
    assert array(raw / "Dataset502_Test/labelsTr/CT_p2.nii.gz").max() == 2


def test_case_without_any_mask(run_unpaired, ct, folder, assert_refused):
    for path in (folder / "ct/p2/segmentations").iterdir():
        path.unlink()
    outcome = run_unpaired(*ct, *MASKS, "--allow_missing", "masks")
    assert_refused(outcome, folder / "ct/p2/ct.nii.gz", "has no label")


@pytest.mark.parametrize(
    ("mask", "fragment"),
    [
        (np.zeros(SHAPE, np.uint8), "masks beside it are empty"),
        (np.arange(210, dtype=np.uint8).reshape(SHAPE), "several values (1, 2, 3, 4, 5), and is no mask"),
        (np.ones((5, 6, 6), np.uint8), "has the size 6x6x5"),
    ],
)
def test_defective_mask(mask, fragment, run_unpaired, ct, folder, assert_refused):
    path = folder / "ct/p2/segmentations/heart_ventricle_left.nii.gz"
    write(path, mask)
    assert_refused(run_unpaired(*ct, "--labels", "ventricle=heart_ventricle_left"), path, fragment)


LABEL_MISTAKES = {
    "no value": (["heart"], [], "write NAME=VALUE"),
    "no name": (["=1"], [], "write NAME=VALUE"),
    "nothing after the comma": (["heart=1,"], [], "write NAME=VALUE"),
    "name twice": (["heart=1", "heart=2"], [], "heart is given twice"),
    "value of two labels": (["heart=1", "vessel=1"], [], "the value 1 is given twice"),
    "background only": (["background=0"], [], "at least one structure"),
    "twice the background": (["background=0", "background=1", "heart=2"], [], "background is given twice"),
    "no whole number": (["heart=1.5"], [], "whole numbers"),
    "huge value": (["heart=99999999999"], [], "whole numbers"),
    "mask for a label map": (["heart=heart_myocardium"], [], "{structure} in the pattern"),
    "300 structures": ([f"s{value}={value}" for value in range(1, 301)], [], "names 300 structures"),
    "256 structures": ([f"s{value}={value}" for value in range(1, 257)], [], "at most 255"),
    "branch that is none": (["heart=1"], ["XY", "heart=1"], "--labels_of XY: there is no such branch"),
    "branch forgotten": (["heart=1"], ["heart=1"], "--labels_of heart=1: there is no such branch"),
    "labels forgotten": (["heart=1"], ["MR"], "--labels_of MR: name at least one structure"),
    "label that is none": (["heart=1"], ["MR", "aorta=1"], "--labels does not name aorta"),
    "value twice": (["heart=1", "aorta=2"], ["MR", "aorta=1", "heart=1"], "--labels_of MR: the value 1 is given twice"),
}


@pytest.mark.parametrize("mistake", LABEL_MISTAKES)
def test_malformed_labels(mistake, run_unpaired, mr, assert_refused):
    labels, own, fragment = LABEL_MISTAKES[mistake]
    assert_refused(run_unpaired(*mr, "--labels", *labels, *(["--labels_of", *own] if own else [])), fragment)


def test_labels_of_a_branch_twice(run_unpaired, mr, assert_refused):
    outcome = run_unpaired(*mr, "--labels", "heart=1", *(["--labels_of", "MR", "heart=1"] * 2))
    assert_refused(outcome, "--labels_of: MR is given twice")


def test_empty_labels(run_unpaired, ct, mr, folder, assert_refused, raw):
    for name in ("heart_ventricle_left", "heart_myocardium", "heart_atrium_left"):
        write(folder / f"ct/p2/segmentations/{name}.nii.gz", np.zeros(SHAPE, np.uint8))
    write(folder / "mr/p3_label.nii.gz", np.zeros(SHAPE, np.uint8))
    arguments = [*ct, *mr, *MASKS, "--labels_of", "MR", "myocardium=200", "ventricle=500"]
    assert_refused(run_unpaired(*arguments), "p2", "empty", "MR_p3")
    outcome = run_unpaired(*arguments, "--allow_empty_labels")
    assert outcome.code == 0, outcome.err
    assert "Notice: the label is empty, all of it is background: CT_p2, MR_p3." in outcome.out
    assert not array(raw / "Dataset502_Test/labelsTr/CT_p2.nii.gz").any()


def test_options_that_are_repeated_add_up(run_unpaired, mr, raw):
    labels = ["--labels", "myocardium=200", "--labels", "ventricle=500"]
    outcome = run_unpaired(*mr, *labels, "--hold_out", "p1", "--hold_out", "p2", "--folds", 2)
    assert "cannot be split" in outcome.err
    outcome = run_unpaired(*mr, *labels, "--hold_out", "p1")
    assert outcome.code == 0, outcome.err
    assert array(raw / "Dataset502_Test/labelsTr/MR_p2.nii.gz").max() == 2


def test_mask_twice(run_unpaired, ct, assert_refused):
    assert_refused(run_unpaired(*ct, "--labels", "one=heart_atrium_left", "two=heart_atrium_left"), "given twice")


def test_255_structures(run_unpaired, mr, raw):
    labels = [f"s{value}={value}" for value in range(246, 501)]
    outcome = run_unpaired(*mr, "--labels", "background=0,200", *labels)
    assert outcome.code == 0, outcome.err
    assert array(raw / "Dataset502_Test/labelsTr/MR_p1.nii.gz").max() == 255


def test_label_scheme():
    named = name_labels(["ignore=9", "atrium=420,421", "background=0,1"])
    scheme = value_scheme(named, list(named), "--labels")
    assert scheme.names == {"background": 0, "atrium": 1, "ignore": 2}
    assert scheme.mapping == {0: 0, 1: 0, 420: 1, 421: 1, 9: 2}
