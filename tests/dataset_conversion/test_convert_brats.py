"""What rl_nnunet_convert_brats writes."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.dataset_conversion.brats import SEQUENCES, YEARS
from rl_nnunet.dataset_conversion.brats_cases import find_case_folders
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.convert_brats import DEFAULT_BRANCHES, parse_branches
from rl_nnunet.dataset_conversion.splits import make_splits

# Edema, necrosis, enhancing tumor, and from 2024 on the resection cavity.
MAPPINGS = {year: {0: 0, 2: 1, 1: 2, 4 if year < 2023 else 3: 3} for year in YEARS}
MAPPINGS[2024][4] = 4


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def case_files(folder, kind):
    """Return the files of the segmentation, or of one sequence, per case."""
    endings = (f"{kind}.nii", f"{kind}.nii.gz")
    return {path.parent.name: path for path in folder.rglob("*") if path.name.endswith(endings)}


def table(folder):
    with (folder / "cases.csv").open() as file:
        return {row["case"]: row for row in csv.DictReader(file)}


@pytest.fixture
def converted(run_brats, raw):
    """Return a function that converts a folder, and returns the data set's folder and the outcome."""

    def convert(folder, *arguments):
        outcome = run_brats(folder, *arguments)
        assert outcome.code == 0, outcome.err
        return raw / "Dataset503_BraTS", outcome

    return convert


@pytest.mark.parametrize("year", YEARS)
def test_layout_of_every_year(year, converted, brats_phantom, raw):
    source = brats_phantom(year)
    folder, _ = converted(source)
    assert os.listdir(raw) == [folder.name]
    first_sequence = case_files(source, {2023: "t1n", 2024: "t1n"}.get(year, "t1"))
    training = sorted(name for name, path in first_sequence.items() if "alid" not in str(path))
    tests = sorted(set(first_sequence) - set(training))
    assert (len(training), len(tests)) == (5, 1)
    for suffix, names in (("Tr", training), ("Ts", tests)):
        expected = [f"{name}_000{channel}.nii.gz" for name in names for channel in range(4)]
        assert sorted(os.listdir(folder / f"images{suffix}")) == expected
    assert sorted(os.listdir(folder / "labelsTr")) == [f"{name}.nii.gz" for name in training]
    assert not (folder / "labelsTs").exists()
    for name, segmentation in {**case_files(source, "seg"), **case_files(source, "Segm")}.items():
        label = array(folder / "labelsTr" / f"{name}.nii.gz")
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, np.vectorize(MAPPINGS[year].get)(array(segmentation)))


@pytest.mark.parametrize("year", YEARS)
def test_dataset_json(year, converted, brats_phantom, verify):
    folder, _ = converted(brats_phantom(year))
    dataset_json = json.loads((folder / "dataset.json").read_text())
    regions = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": [3]}
    if year == 2024:
        regions["resection_cavity"] = [4]
    assert dataset_json["labels"] == regions
    assert list(dataset_json["labels"]) == list(regions)
    assert dataset_json["regions_class_order"] == ([1, 2, 3, 4] if year == 2024 else [1, 2, 3])
    assert dataset_json["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    assert dataset_json["rl_nnunet"]["brats_year"] == year
    layout = layout_from_dataset_json(dataset_json)
    assert (layout.names, layout.channels, layout.pairing) == (("T1w", "T2w"), ((0, 1), (2, 3)), "paired")
    assert "Warning" not in verify(folder)


def test_nnunet_writes_the_labels_from_the_regions(converted, brats_phantom):
    """The value of every region, written in nnU-Net's order, gives the label map back."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    folder, _ = converted(brats_phantom(2024))
    dataset_json = json.loads((folder / "dataset.json").read_text())
    manager = LabelManager(dataset_json["labels"], dataset_json["regions_class_order"])
    labels = np.arange(5, dtype=np.uint8)[None, None]
    regions = np.stack([np.isin(labels, np.atleast_1d(region)) for region in manager.foreground_regions])
    np.testing.assert_array_equal(manager.convert_probabilities_to_segmentation(regions.astype(np.float32)), labels)


def test_images_keep_voxels_and_geometry(converted, brats_phantom):
    source = brats_phantom(2021)
    folder, _ = converted(source)
    for channel, suffix in enumerate(("t1", "t1ce", "t2", "flair")):
        for name, path in case_files(source, f"_{suffix}").items():
            part = "Ts" if "alid" in str(path) else "Tr"
            original = sitk.ReadImage(str(path))
            image = sitk.ReadImage(str(folder / f"images{part}/{name}_000{channel}.nii.gz"))
            assert image.GetPixelID() == original.GetPixelID()
            assert image.IsSameImageGeometryAs(original, 1e-6, 1e-6)
            np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(original))


def test_branches_order_the_channels(converted, brats_phantom):
    source = brats_phantom(2021)
    folder, _ = converted(source, "--branches", "fluid=FLAIR+t2", "T1ce", "T1")
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "FLAIR", "1": "T2", "2": "T1ce", "3": "T1"}
    layout = layout_from_dataset_json(dataset_json)
    assert (layout.names, layout.channels) == (("fluid", "T1ce", "T1"), ((0, 1), (2,), (3,)))
    name, path = next(iter(case_files(source / "BraTS2021_Training_Data", "t1ce").items()))
    np.testing.assert_array_equal(array(folder / f"imagesTr/{name}_0002.nii.gz"), array(path))


def test_names_of_branches():
    assert parse_branches(DEFAULT_BRANCHES) == {"T1w": ("T1", "T1ce"), "T2w": ("T2", "FLAIR")}
    assert parse_branches(SEQUENCES) == {sequence: (sequence,) for sequence in SEQUENCES}
    assert list(parse_branches(["T1+T1ce", "T2+FLAIR"])) == ["T1_T1ce", "T2_FLAIR"]


def test_table_of_cases(converted, brats):
    source = brats(2020)
    (source / "MICCAI_BraTS2020_TrainingData/survival_info.csv").write_text(
        "Brats20ID,Age,Survival_days,Extent_of_Resection\n"
        "BraTS20_Training_001,60.463,289,GTR\n"
        "BraTS20_Training_002,52.5,ALIVE (361 days later),NA\n"
        "BraTS20_Training_999,old,a year,STR\n"
    )
    (source / "survival_predictions.csv").write_text("case;days\n")
    (source / "MICCAI_BraTS2020_ValidationData/survival_evaluation.csv").write_text(
        "\ufeffBraTS20ID,Age,ResectionStatus\nBraTS20_Validation_001,70,STR\n", encoding="utf-8"
    )
    rows = table(converted(source)[0])
    assert list(rows["BraTS20_Training_001"].values()) == [
        *("BraTS20_Training_001", "BraTS20_Training_001", "train", "HGG", "60.463", "289", "False", "GTR")
    ]
    assert list(rows["BraTS20_Training_002"].values())[3:] == ["LGG", "52.5", "361", "True", ""]
    assert list(rows["BraTS20_Validation_001"].values())[2:] == ["test", "", "70", "", "", "STR"]
    assert list(rows["BraTS20_Training_003"].values())[4:] == ["", "", "", ""]
    assert set(rows) == {f"BraTS20_Training_{n}" for n in ("001", "002", "003", "004", "355")} | {
        "BraTS20_Validation_001"
    }


@pytest.mark.parametrize("year", [2018, 2019])
def test_grade_follows_from_the_folder(year, converted, brats):
    source = brats(year)
    for path in source.rglob("*.csv"):
        path.unlink()
    folder, outcome = converted(source)
    rows = table(folder)
    for path in source.rglob("*_seg.nii.gz"):
        assert rows[path.parent.name]["grade"] == path.parent.parent.name
    first_words = [line.split()[:3] for line in outcome.out.splitlines() if line]
    assert first_words[0] == ["grade", "train", "test"]
    for line in (["HGG", "4", "0"], ["LGG", "1", "0"], ["unknown", "0", "1"]):
        assert line in first_words


def test_patient_of_every_year():
    for year, name, patient in (
        (2018, "Brats18_TCIA01_131_1", "Brats18_TCIA01_131"),
        (2018, "Brats18_2013_2_1", "Brats18_2013_2"),
        (2019, "BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB"),
        (2020, "BraTS20_Training_012", "BraTS20_Training_012"),
        (2021, "BraTS2021_00495", "BraTS2021_00495"),
        (2023, "BraTS-GLI-00495-001", "BraTS-GLI-00495"),
        (2024, "BraTS-GLI-02062-103", "BraTS-GLI-02062"),
    ):
        found = [other for other, pattern in YEARS.items() if pattern.case_pattern.fullmatch(name)]
        assert found == [year]
        assert YEARS[year].case_pattern.fullmatch(name)["patient"] == patient


@pytest.mark.parametrize("name", ["Brats18_Training_Data", "BraTS19_Training_Data", "BraTS2021_Training_Data"])
def test_ordinary_folders_are_no_cases(name):
    assert not any(year.case_pattern.fullmatch(name) for year in YEARS.values())


def test_splits_are_balanced_by_grade():
    grades = ["HGG"] * 20 + ["LGG"] * 10
    cases = [Case(f"{i:02d}", ("A", "B"), str(i), {}, stratum=grade) for i, grade in enumerate(grades)]
    splits, notices = make_splits(cases, 5)
    assert notices == []
    for split in splits:
        assert sum(int(name) < 20 for name in split["val"]) == 4
        assert sum(int(name) >= 20 for name in split["val"]) == 2


def test_small_grades_do_not_cost_folds():
    cases = [Case(str(i), ("A", "B"), str(i), {}, stratum=grade) for i, grade in enumerate(["HGG", "LGG"] * 3)]
    splits, notices = make_splits(cases, 5)
    assert sorted(len(split["val"]) for split in splits) == [1, 1, 1, 1, 2]
    assert notices == ["the folds are not balanced between HGG and LGG, because none of them has 5 cases."]


def test_time_points_of_a_patient_stay_together(converted, brats_phantom):
    folder, _ = converted(brats_phantom(2024), "--folds", 3)
    splits = json.loads((folder / "splits_final.json").read_text())
    patients = [{row["patient"] for row in table(folder).values() if row["case"] in split["val"]} for split in splits]
    trained = [{row["patient"] for row in table(folder).values() if row["case"] in split["train"]} for split in splits]
    assert len(splits) == 3
    assert all(not validated & others for validated, others in zip(patients, trained, strict=True))
    assert sum(map(len, patients)) == len(set.union(*patients)) == 4


def test_training_folder_itself_and_links(converted, brats_phantom, tmp_path):
    source = brats_phantom(2023) / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    (tmp_path / "links").mkdir()
    for case in source.iterdir():
        (tmp_path / "links" / case.name).symlink_to(case)
    (tmp_path / "links" / "above").symlink_to(tmp_path / "links")
    (tmp_path / "links" / "__MACOSX" / "BraTS-GLI-00000-000").mkdir(parents=True)
    folder, _ = converted(tmp_path / "links")
    assert len(os.listdir(folder / "labelsTr")) == 5
    assert not (folder / "imagesTs").exists()


VALIDATION = (
    *("valid", "Validation", "VALIDATION", "validation_data", "BraTS2021_ValidationData", "BraTSValidation"),
    *("MICCAI_BraTS_2018_Data_Validation", "ASNR-GLI-ValidationData", "data_valid", "valid2021", "BraTS Valid"),
)
TRAINING = ("invalid", "Invalid_Scans", "INVALID", "BraTS2021_TrainingData", "train_val", "val")


@pytest.mark.parametrize("name", [*VALIDATION, *TRAINING])
def test_folders_of_validation_cases(name, brats_phantom, tmp_path):
    source = next(path.parent for path in sorted(brats_phantom(2021).rglob("*_seg.nii.gz")))
    (tmp_path / name).mkdir()
    (tmp_path / name / source.name).symlink_to(source)
    (folder,), _ = find_case_folders(tmp_path / name)
    assert folder.is_validation == (name in VALIDATION)


def test_labels_of_validation_cases_are_kept(converted, brats):
    source = brats(2021)
    (validation,) = (source / "BraTS2021_ValidationData").iterdir()
    segmentation = next(source.rglob("BraTS2021_00000_seg.nii.gz"))
    shutil.copy(segmentation, validation / f"{validation.name}_seg.nii.gz")
    folder, _ = converted(source)
    assert os.listdir(folder / "labelsTs") == [f"{validation.name}.nii.gz"]


def test_whole_numbers_that_a_slope_has_rounded(converted, brats):
    source = brats(2021)
    path = next(source.rglob("BraTS2021_00000_seg.nii.gz"))
    exact = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(exact, sitk.sitkFloat32) * 1.0039, str(path))
    folder, _ = converted(source)
    expected = np.vectorize(MAPPINGS[2021].get)(sitk.GetArrayViewFromImage(exact))
    np.testing.assert_array_equal(array(folder / "labelsTr" / "BraTS2021_00000.nii.gz"), expected)


def test_folders_in_place_of_files(converted, brats):
    """As in copies on Kaggle; what macOS adds to them does not count."""
    source = brats(2021)
    case = source / "BraTS2021_Training_Data" / "BraTS2021_00000"
    for path in list(case.iterdir()):
        image = sitk.ReadImage(str(path))
        folder = path.with_suffix("")
        path.unlink()
        folder.mkdir()
        sitk.WriteImage(image, str(folder / "00000377_brain.nii"))
        (folder / "._00000377_brain.nii").touch()
    folder, _ = converted(source)
    original = case / "BraTS2021_00000_flair.nii" / "00000377_brain.nii"
    np.testing.assert_array_equal(array(folder / "imagesTr" / "BraTS2021_00000_0003.nii.gz"), array(original))


def test_misnamed_segmentation_of_a_case_in_lower_case(converted, brats):
    source = brats(2020)
    case = next(source.rglob("BraTS20_Training_355"))
    case.rename(case.with_name(case.name.lower()))
    folder, _ = converted(source)
    assert (folder / "labelsTr" / "brats20_training_355.nii.gz").is_file()


def test_cases_before_and_after_treatment(converted, brats, brats_phantom):
    source = brats(2024)
    before = next(brats_phantom(2023).rglob("BraTS-GLI-00000-000"))
    for path in before.iterdir():
        copy = source / "training_data1_v2" / "BraTS-GLI-01000-000" / path.name.replace("00000-000", "01000-000")
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    folder, _ = converted(source, "--year", 2024)
    assert json.loads((folder / "dataset.json").read_text())["rl_nnunet"]["brats_year"] == 2024
    rows = table(folder)
    assert {rows[f"BraTS-GLI-01000-{visit}"]["patient"] for visit in ("000", "100")} == {"BraTS-GLI-01000"}
    label, original = (array(p) for p in (folder / "labelsTr/BraTS-GLI-01000-000.nii.gz", next(before.glob("*seg*"))))
    np.testing.assert_array_equal(label, np.vectorize(MAPPINGS[2024].get)(original))


def test_empty_label_after_treatment(converted, brats):
    source = brats(2024)
    path = next((source / "training_data1_v2").rglob("*-seg.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    folder, outcome = converted(source)
    assert not array(folder / "labelsTr" / f"{path.parent.name}.nii.gz").any()
    assert f"Notice: the label is empty, all of it is background: {path.parent.name}." in outcome.out


@pytest.mark.parametrize("visits", [1, 2])
def test_one_patient_is_written_without_folds(visits, converted, brats):
    source = brats(2024) / "training_data1_v2"
    first, second = sorted(source.iterdir())[:2]
    for case in source.iterdir():
        if case != first and (visits == 1 or case.name[:15] != first.name[:15]):
            shutil.rmtree(case)
    folder, outcome = converted(source)
    assert len(os.listdir(folder / "labelsTr")) == visits
    assert not (folder / "splits_final.json").exists()
    assert "one patient cannot be split into folds" in outcome.out
    assert second.name[:15] == first.name[:15]


def test_processes_do_not_change_the_result(converted, brats_phantom):
    folder, _ = converted(brats_phantom(2018))
    before = {path.name: path.read_bytes() for path in folder.rglob("[!.]*.*") if path.is_file()}
    converted(brats_phantom(2018), "--overwrite", "-np", 2)
    assert {path.name: path.read_bytes() for path in folder.rglob("[!.]*.*") if path.is_file()} == before


def test_run_after_a_killed_one(converted, kill_run, brats_phantom, raw):
    leftover = kill_run("convert_brats", "-i", brats_phantom(2021), "-d", 503)
    assert not leftover.name.startswith("Dataset")
    folder, _ = converted(brats_phantom(2021))
    assert os.listdir(raw) == [folder.name]


def test_real_case(converted, real_brats, verify):
    folder, outcome = converted(real_brats)
    assert "one patient cannot be split into folds" in outcome.out
    case = next(real_brats.iterdir())
    label = array(folder / "labelsTr" / f"{case.name}.nii.gz")
    np.testing.assert_array_equal(label, np.array([0, 2, 1, 3])[array(case / f"{case.name}-seg.nii.gz").astype(int)])
    assert "Warning" not in verify(folder)
