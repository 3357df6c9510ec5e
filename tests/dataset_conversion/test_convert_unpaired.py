"""What rl_nnunet_convert_unpaired writes, and how it finds files, names channels and splits patients."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.case_table import read_case_table
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.convert_unpaired import main, parse_branch
from rl_nnunet.dataset_conversion.file_search import BranchFiles, find_cases
from rl_nnunet.dataset_conversion.general_options import name_channels


def write(path, seed, values=None, spacing=(1.0, 1.0, 1.0)):
    """Write an image of 6³ voxels, or the label map of the given values."""
    array = np.random.default_rng(seed).normal(100, 10, (6, 6, 6)).astype(np.float32)
    if values is not None:
        array = np.zeros((6, 6, 6), np.uint8)
        array[2:4, 2:4, 2 : 2 + len(values)] = values
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture
def folders(tmp_path):
    """CT cases p1 to p4, MR cases p3 to p6 with two channels, p9 without a label; labels 3 and 7."""
    for number in range(1, 5):
        write(tmp_path / f"ct/p{number}.nii.gz", number)
        write(tmp_path / f"ct/p{number}_label.nii.gz", number, (3, 7))
    for number in range(3, 7):
        for channel in ("t1", "t2"):
            write(tmp_path / f"mr/p{number}/{channel}.nii.gz", [number, int(channel[1])])
        write(tmp_path / f"mr/p{number}/seg.nii.gz", number, (3, 7))
    for channel in ("t1", "t2"):
        write(tmp_path / f"new/p9/{channel}.nii.gz", 9)
    return tmp_path


@pytest.fixture
def arguments(folders):
    """The arguments that describe these folders."""
    ct = f"CT={folders}/ct/{{case}}.nii.gz:{folders}/ct/{{case}}_label.nii.gz"
    mr = ",".join(f"{folders}/mr/{{case}}/{channel}.nii.gz" for channel in ("t1", "t2"))
    branches = ["--branch", ct, "--branch", f"MR={mr}:{folders}/mr/{{case}}/seg.nii.gz"]
    return [*branches, "--labels", "background=0", "myocardium=3", "ventricle=7"]


def test_two_branches_three_channels(run_unpaired, arguments, folders, raw):
    test = ",".join(f"{folders}/new/{{case}}/{channel}.nii.gz" for channel in ("t1", "t2"))
    outcome = run_unpaired(*arguments, "--test", f"MR={test}", "--channels", "MR=T1,T2", "--hold_out", "p4")
    assert outcome.code == 0, outcome.err
    folder = raw / "Dataset502_Test"
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "CT", "1": "T1", "2": "T2"}
    assert dataset_json["rl_nnunet"] == {
        "branches": {"CT": ["CT"], "MR": ["T1", "T2"]},
        "pairing": "unpaired",
        "orientation": "LPS",
    }
    assert dataset_json["labels"] == {"background": 0, "myocardium": 1, "ventricle": 2}
    training = ["CT_p1", "CT_p2", "CT_p3", "MR_p3", "MR_p5", "MR_p6"]
    assert sorted(os.listdir(folder / "labelsTr")) == [f"{name}.nii.gz" for name in training]
    assert len(os.listdir(folder / "imagesTr")) == 3 * len(training)
    assert sorted(os.listdir(folder / "labelsTs")) == ["CT_p4.nii.gz", "MR_p4.nii.gz"]
    tests = ["CT_p4", "MR_p4", "MR_p9"]
    assert sorted(os.listdir(folder / "imagesTs")) == [f"{n}_000{c}.nii.gz" for n in tests for c in range(3)]
    for channel, source in enumerate((None, "mr/p3/t1.nii.gz", "mr/p3/t2.nii.gz")):
        image = array(folder / f"imagesTr/MR_p3_000{channel}.nii.gz")
        np.testing.assert_array_equal(image, array(folders / source) if source else np.zeros((6, 6, 6)))
    assert sorted(np.unique(array(folder / "labelsTr/MR_p3.nii.gz"))) == [0, 1, 2]


def test_patients_with_two_branches_stay_together(run_unpaired, arguments, raw):
    run_unpaired(*arguments, "--folds", 2)
    splits = json.loads((raw / "Dataset502_Test/splits_final.json").read_text())
    assert len(splits) == 2
    for split in splits:
        patients = [{name.split("_")[1] for name in split[part]} for part in ("train", "val")]
        assert not patients[0] & patients[1]
        assert {name[:2] for name in split["val"]} == {name[:2] for name in split["train"]} == {"CT", "MR"}


def test_held_out_names_from_a_file(run_unpaired, arguments, tmp_path, raw):
    names = tmp_path / "held_out.txt"
    names.write_text("p1\n\n p6 \n")
    run_unpaired(*arguments, "--hold_out", names, "p4")
    tests = sorted(os.listdir(raw / "Dataset502_Test/labelsTs"))
    assert tests == [f"{name}.nii.gz" for name in ("CT_p1", "CT_p4", "MR_p4", "MR_p6")]


def test_spacing_of_one_branch_is_corrected(run_unpaired, arguments, folders, raw):
    outcome = run_unpaired(*arguments, "--spacing", "MR=0.5,keep,2", "--orientation", "keep")
    assert outcome.code == 0, outcome.err
    assert "1x1x1 mm of the header corrected to 0.5x1x2 mm" in outcome.out
    folder = raw / "Dataset502_Test"
    spacings = {}
    for name in ("MR_p3_0000", "MR_p3_0001", "MR_p3_0002", "CT_p3_0000"):
        spacings[name] = sitk.ReadImage(str(folder / f"imagesTr/{name}.nii.gz")).GetSpacing()
    label = sitk.ReadImage(str(folder / "labelsTr/MR_p3.nii.gz"))
    assert label.GetSpacing() == spacings["MR_p3_0001"] == (0.5, 1, 2)
    assert spacings["CT_p3_0000"] == (1, 1, 1)
    assert spacings["MR_p3_0000"] == spacings["MR_p3_0002"] == (0.5, 1, 2)
    original = sitk.ReadImage(str(folders / "mr/p3/t1.nii.gz"))
    corrected = sitk.ReadImage(str(folder / "imagesTr/MR_p3_0001.nii.gz"))
    assert corrected.GetOrigin() == original.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(corrected), sitk.GetArrayFromImage(original))


def test_channel_on_another_grid(run_unpaired, arguments, folders, assert_refused):
    path = folders / "mr/p5/t2.nii.gz"
    write(path, 5, spacing=(1.0, 1.0, 1.5))
    assert_refused(run_unpaired(*arguments), path, "spacing differ", "t1.nii.gz")


def test_missing_channel(run_unpaired, arguments, folders, assert_refused):
    (folders / "mr/p5/t2.nii.gz").unlink()
    assert_refused(run_unpaired(*arguments), "case p5 lacks a channel beside", "t1.nii.gz")


def test_thick_slices_along_different_axes_are_noticed(run_unpaired, arguments, folders):
    for name in ("p1", "p1_label"):
        path = str(folders / f"ct/{name}.nii.gz")
        image = sitk.ReadImage(path)
        image.SetSpacing((1.0, 1.0, 5.0))
        image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
        sitk.WriteImage(image, path)
        path = path.replace("p1", "p2")
        image = sitk.ReadImage(path)
        image.SetSpacing((1.0, 1.0, 5.0))
        sitk.WriteImage(image, path)
    assert "--orientation keep" in run_unpaired(*arguments).out
    assert "--orientation keep" not in run_unpaired(*arguments, "--overwrite", "--orientation", "keep").out


def test_wildcard_that_finds_two_files_of_a_case(tmp_path, run, assert_refused):
    for name in ("p1.nii", "p1.nii.gz"):
        write(tmp_path / "ct" / name, 1)
        write(tmp_path / "label" / name, 1, (1,))
    branch = f"CT={tmp_path}/ct/{{case}}.nii*:{tmp_path}/label/{{case}}.nii"
    outcome = run(main, "-d", 502, "-n", "Test", "--branch", branch, "--labels", "heart=1")
    assert_refused(outcome, tmp_path / "ct/p1.nii ", tmp_path / "ct/p1.nii.gz", "two files of one case")


def test_placeholder_may_occur_twice_and_brackets_are_plain(tmp_path):
    folder = tmp_path / "data [1]"
    write(folder / "p1" / "p1_image.nii.gz", 1)
    write(folder / "p2" / "p3_image.nii.gz", 1)
    write(folder / "p1" / "p1_label.nii.gz", 1, (1,))
    patterns = [f"{folder}/{{case}}/{{case}}_{kind}.nii.gz" for kind in ("image", "label")]
    (case,) = find_cases(BranchFiles("CT", (patterns[0],), patterns[1]), [0], "CT_{case}", shared_patients=True)
    assert case == Case(
        "CT_p1",
        ("CT",),
        "p1",
        {0: folder / "p1" / "p1_image.nii.gz"},
        folder / "p1" / "p1_label.nii.gz",
    )


def test_hidden_and_foreign_files_are_no_cases(tmp_path):
    write(tmp_path / "p1.nii.gz", 1)
    for name in ("._p1.nii.gz", "p2.nii.gz.part", "readme.txt"):
        (tmp_path / name).touch()
    (case,) = find_cases(BranchFiles("CT", (f"{tmp_path}/{{case}}.*",), None), [0], "{case}", is_test=True)
    assert case.identifier == "p1"


def test_channel_names():
    branches = [parse_branch(text, "--branch") for text in ("CT={case}.nii:{case}_l.nii", "MR={case}a,{case}b:c{case}")]
    training = [(files.branch, len(files.image_patterns)) for files in branches]
    assert name_channels(training, []) == {"CT": ("CT",), "MR": ("MR_0", "MR_1")}
    assert name_channels(training, ["CT=thorax"]) == {"CT": ("thorax",), "MR": ("MR_0", "MR_1")}


def test_real_cardiac_mr(run, real_mscmr, raw, tmp_path):
    """Three patients a contrast of MS-CMRSeg, oblique, with double-precision images and labels."""
    for contrast, suffix, numbers in (("bSSFP", "C0", (22, 23, 24)), ("LGE", "LGE", (24, 25, 26))):
        (tmp_path / contrast).mkdir()
        for number in numbers:
            for kind in ("", "_manual"):
                name = f"patient{number}_{suffix}{kind}.nii.gz"
                (tmp_path / contrast / name).symlink_to(real_mscmr / contrast / name)
    branches = [
        f"{c}={tmp_path}/{c}/{{case}}_{s}.nii.gz:{tmp_path}/{c}/{{case}}_{s}_manual.nii.gz"
        for c, s in (("bSSFP", "C0"), ("LGE", "LGE"))
    ]
    labels = ["myocardium=200", "left_ventricle=500", "right_ventricle=600"]
    outcome = run(
        *(main, "-d", 502, "-n", "MSCMR", "-np", 1, "--orientation", "keep"),
        *("--branch", branches[0], "--branch", branches[1], "--labels", *labels),
    )
    assert outcome.code == 0, outcome.err
    folder = raw / "Dataset502_MSCMR"
    assert len(os.listdir(folder / "labelsTr")) == 6
    source = array(real_mscmr / "bSSFP/patient22_C0_manual.nii.gz")
    label = array(folder / "labelsTr/bSSFP_patient22.nii.gz")
    np.testing.assert_array_equal(label, np.select([source == v for v in (200, 500, 600)], [1, 2, 3]))


def test_scans_of_one_patient_stay_cases_of_their_own(run_unpaired, arguments, raw):
    """p3 and p4 have a CT and an MR; what differs from the data set without the option is what says so."""
    assert run_unpaired(*arguments).code == 0
    folder = raw / "Dataset502_Test"
    assert not (folder / "cases.csv").exists()
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.nii.gz")}
    splits = (folder / "splits_final.json").read_text()
    outcome = run_unpaired(*arguments, "--same_patient", "--overwrite")
    assert "2 of 6 training patients have scans of several branches, first p3" in outcome.out
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.nii.gz")} == before
    assert (folder / "splits_final.json").read_text() == splits
    assert json.loads((folder / "dataset.json").read_text())["rl_nnunet"]["pairing"] == "unregistered"
    patients = {row.case: row.patient for row in read_case_table(folder / "cases.csv")}
    assert patients == {path.name[: -len(".nii.gz")]: path.name[3:5] for path in (folder / "labelsTr").iterdir()}


def test_no_patient_with_several_scans(run_unpaired, arguments, raw, assert_refused):
    outcome = run_unpaired(*arguments, "--same_patient", "--hold_out", "p3", "p4")
    assert_refused(outcome, "--same_patient: no training case has one name in two branches")
    assert not (raw / "Dataset502_Test").exists()
