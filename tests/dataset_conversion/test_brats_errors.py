"""Every unusable BraTS ends in one sentence that names file and remedy, and leaves nothing in nnUNet_raw."""

import gzip
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

CASE = "BraTS2021_00000"
T2, SEG = f"{CASE}_t2.nii.gz", f"{CASE}_seg.nii.gz"


def change(path, function):
    """Rewrite an image's voxels."""
    image = sitk.ReadImage(str(path))
    changed = sitk.GetImageFromArray(function(sitk.GetArrayFromImage(image).astype(np.float32)))
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))


def with_value(value):
    def function(values):
        values[2, 2, 2] = value
        return values

    return function


def shift(path):
    image = sitk.ReadImage(str(path))
    image.SetOrigin([position + 5 for position in image.GetOrigin()])
    sitk.WriteImage(image, str(path))


def damage(path, position, value):
    """Replace a file by an uncompressed one of 32-bit floats with one wrong byte in its header."""
    change(path, lambda values: values)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[position] = value
    path.with_suffix("").write_bytes(content)
    path.unlink()


def capitalize(path):
    path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))


DEFECTS = {
    "sequence missing": (T2, lambda p: p.unlink(), f"lacks the sequence T2, {T2}"),
    "segmentation missing": (SEG, lambda p: p.unlink(), f"has no segmentation, {SEG}"),
    "file twice": (T2, lambda p: shutil.copy(p, str(p).removesuffix(".gz")), "two files of one case"),
    "truncated": (T2, lambda p: p.write_bytes(p.read_bytes()[:-200]), "is truncated"),
    "truncated, in capitals": (T2, lambda p: (p.write_bytes(p.read_bytes()[:-200]), capitalize(p)), "is truncated"),
    "not compressed": (T2, lambda p: p.write_bytes(gzip.decompress(p.read_bytes())), f"rename it to {CASE}_t2.nii."),
    "offset too low": (T2, lambda p: damage(p, 110, 0), "voxels start at byte 128"),
    "offset that is no number": (T2, lambda p: damage(p, 111, 127), "voxels start at byte nan"),
    "no mark of the format": (T2, lambda p: damage(p, 344, 0), "is not marked as NIfTI"),
    "negative size": (T2, lambda p: damage(p, 45, 255), "the size 16x-240x10"),
    "no image at all": (T2, lambda p: p.write_bytes(b"404"), "is not a readable image"),
    "other size": (T2, lambda p: sitk.WriteImage(sitk.ReadImage(str(p))[:, :, 1:], str(p)), "has the size 16x16x9"),
    "other origin": (T2, shift, "(origin differ)"),
    "other origin of the segmentation": (SEG, shift, "(origin differ)"),
    "NaN": (T2, lambda p: change(p, with_value(np.nan)), "NaN or infinity"),
    "NaN, in capitals": (T2, lambda p: (change(p, with_value(np.nan)), capitalize(p)), "NaN or infinity"),
    "constant": (T2, lambda p: change(p, np.zeros_like), "has the value 0.0 everywhere"),
    "value of another year": (SEG, lambda p: change(p, with_value(3)), "unknown label value 3"),
    "value between two": (SEG, lambda p: change(p, with_value(1.0300001)), "unknown label value 1.0300001;"),
    "empty segmentation": (SEG, lambda p: change(p, np.zeros_like), "is empty"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defective_case_is_refused(defect, run_brats, brats, assert_refused):
    file, break_it, fragment = DEFECTS[defect]
    source = brats(2021)
    folder = source / "BraTS2021_Training_Data" / CASE
    break_it(folder / file)
    assert_refused(run_brats(source), fragment, folder)


def test_no_such_folder(run_brats, tmp_path, assert_refused):
    assert_refused(run_brats(tmp_path / "nowhere"), f"There is no folder {tmp_path / 'nowhere'}")


def test_nothing_found(run_brats, tmp_path, assert_refused):
    (tmp_path / "data" / "BraTS-MEN-00000-000").mkdir(parents=True)
    assert_refused(run_brats(tmp_path / "data"), "holds no folder that is called like a case")


def test_validation_cases_only(run_brats, brats_phantom, assert_refused):
    folder = brats_phantom(2021) / "BraTS2021_ValidationData"
    assert_refused(run_brats(folder), f"{folder} holds no training case")


@pytest.mark.parametrize(
    ("other", "arguments", "remedy"),
    [
        ("BraTS2021_00000", (), "by itself."),
        ("BraTS2021_00000", ("--year", 2024), "by itself."),
        ("BraTS-GLI-02062-100", (), "by itself, or all of them together with --year 2024."),
        ("BraTS-GLI-02062-100", ("--year", 2023), "by itself, or all of them together with --year 2024."),
    ],
)
def test_several_years(other, arguments, remedy, run_brats, tmp_path, assert_refused):
    for case in ("BraTS-GLI-00003-000", other):
        (tmp_path / "data" / case).mkdir(parents=True)
    outcome = run_brats(tmp_path / "data", *arguments)
    assert_refused(outcome, "2023 (BraTS-GLI-00003-000)", f"({other})", f"convert each year {remedy}")


def test_year_that_contradicts_the_names(run_brats, brats_phantom, assert_refused):
    assert_refused(run_brats(brats_phantom(2023), "--year", 2024), "--year 2024", "BraTS 2023 (BraTS-GLI-")


def test_case_twice(run_brats, brats, assert_refused):
    source = brats(2021)
    shutil.copytree(source / "BraTS2021_Training_Data" / CASE, source / "copy" / CASE)
    assert_refused(run_brats(source), "two folders of one case", source / "copy" / CASE)


def test_id_taken(run_brats, brats_phantom, raw, assert_refused):
    (raw / "Dataset503_Other").mkdir()
    assert_refused(run_brats(brats_phantom(2021)), "Dataset503_Other", left=["Dataset503_Other"])


def test_nnunet_raw_unset(run_brats, brats_phantom, monkeypatch, assert_refused):
    monkeypatch.delenv("nnUNet_raw")
    assert_refused(run_brats(brats_phantom(2021)), "nnUNet_raw is not set")


BRANCHES = {
    "unknown sequence": (["T1+T1c", "T2+FLAIR"], "there is no sequence 'T1c'"),
    "sequence twice": (["T1+T1ce", "T2+FLAIR+T1"], "exactly once"),
    "one sequence alone, twice": (["T1", "T1"], "T1 is used twice"),
    "sequence twice in a branch": (["A=T1+T1", "T1ce+T2+FLAIR"], "T1 is used twice"),
    "sequence left out": (["T1+T1ce", "T2"], "exactly once"),
    "name twice": (["A=T1+T1ce", "A=T2+FLAIR"], "the name A is given twice"),
    "no name": (["=T1+T1ce", "T2+FLAIR"], "a name consists of"),
    "no sequence": (["A=", "T2+FLAIR"], "there is no sequence ''"),
}


@pytest.mark.parametrize("mistake", BRANCHES)
def test_malformed_branches(mistake, run_brats, tmp_path, assert_refused):
    entries, fragment = BRANCHES[mistake]
    assert_refused(run_brats(tmp_path, "--branches", *entries), "--branches", fragment)


def test_branches_that_are_repeated_add_up(run_brats, tmp_path, assert_refused):
    outcome = run_brats(tmp_path, "--branches", "T1", "--branches", "T1ce", "T2", "FLAIR")
    assert_refused(outcome, tmp_path, "holds no folder that is called like a case")


SURVIVAL = "Brats20ID,Age,Survival_days,Extent_of_Resection\nBraTS20_Training_001,"
TABLES = {
    "survival": ("survival_info.csv", f"{SURVIVAL}60,a year,GTR\n".encode(), "'a year' as the survival of"),
    "age": ("survival_info.csv", f"{SURVIVAL}old,289,GTR\n".encode(), "'old' as the age of BraTS20_Training_001"),
    "endless age": ("survival_info.csv", f"{SURVIVAL}inf,289,GTR\n".encode(), "'inf' as the age of"),
    "grade": ("name_mapping.csv", b"Grade,BraTS_2020_subject_ID\nIV,BraTS20_Training_001\n", "'IV' as the grade of"),
    **{
        f"formula {text!r}": ("survival_info.csv", f'{SURVIVAL}60,289,"{text}"\n'.encode(), "as the resection of")
        for text in ("=cmd|' /C calc'!A0", "+1+cmd", "-2+3+cmd", "@SUM(1)", "\t=1+1", "\r=1+1", " =1+1", "=1")
    },
    "two ages": (
        "survival_info.csv",
        f"{SURVIVAL}60,289,GTR\nBraTS20_Training_001,61,289,GTR\n".encode(),
        "states 61 as the age of BraTS20_Training_001, but 60",
    ),
    "another separator": ("survival_info.csv", SURVIVAL.replace(",", ";").encode(), "has no column brats20id"),
    "empty": ("survival_info.csv", b"", "has no column brats20id"),
    "no text": ("survival_info.csv", b"\xff\xfe\x00\x81", "cannot be read as a table"),
}


@pytest.mark.parametrize("defect", TABLES)
def test_unreadable_table(defect, run_brats, brats, assert_refused):
    name, content, fragment = TABLES[defect]
    source = brats(2020)
    path = source / "MICCAI_BraTS2020_TrainingData" / name
    path.write_bytes(content)
    assert_refused(run_brats(source), path, fragment)


def test_table_that_contradicts_the_folder(run_brats, brats, assert_refused):
    source = brats(2019)
    (case, *_) = (source / "MICCAI_BraTS_2019_Data_Training" / "HGG").iterdir()
    path = source / "MICCAI_BraTS_2019_Data_Training" / "name_mapping.csv"
    path.write_text(f"Grade,BraTS_2019_subject_ID\nLGG,{case.name}\n")
    assert_refused(run_brats(source), case, "a table states LGG as its grade")


@pytest.mark.parametrize("name", ["-1", "+2.5", "-"])
def test_numbers_and_dashes_are_no_formulas(name, run_brats, brats, raw):
    source = brats(2020)
    (source / "MICCAI_BraTS2020_TrainingData/survival_info.csv").write_text(f"{SURVIVAL}60,289,{name}\n")
    outcome = run_brats(source)
    assert outcome.code == 0, outcome.err
    row = (raw / "Dataset503_BraTS/cases.csv").read_text().splitlines()[1]
    assert row.endswith(f",{name.strip('-') if name == '-' else name}")
