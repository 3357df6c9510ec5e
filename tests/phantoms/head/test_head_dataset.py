import csv
import hashlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.phantoms.head import cases, write
from rl_nnunet.phantoms.head.config import HeadPhantomConfig
from rl_nnunet.phantoms.head.dataset import write_head_dataset
from rl_nnunet.phantoms.head.layout import YEARS, plan_head_jobs

TINY = HeadPhantomConfig(size=32)
OLD, NEW = ("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f")
# Per year, of four training cases and one validation case: the folders, the suffixes, the data type, the labels.
EXPECTED = {
    2018: (
        [
            "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_TCIA01_001_1",
            "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_TCIA01_003_1",
            "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_TCIA01_004_1",
            "MICCAI_BraTS_2018_Data_Training/LGG/Brats18_TCIA01_002_1",
            "MICCAI_BraTS_2018_Data_Validation/Brats18_TCIA02_001_1",
        ],
        ["survival_data.csv", "survival_evaluation.csv"],
        (OLD, "_", ".nii.gz", np.uint8, {0, 1, 2, 4}),
    ),
    2019: (
        [
            "MICCAI_BraTS_2019_Data_Training/HGG/BraTS19_TCIA01_001_1",
            "MICCAI_BraTS_2019_Data_Training/HGG/BraTS19_TCIA01_003_1",
            "MICCAI_BraTS_2019_Data_Training/HGG/BraTS19_TCIA01_004_1",
            "MICCAI_BraTS_2019_Data_Training/LGG/BraTS19_TCIA01_002_1",
            "MICCAI_BraTS_2019_Data_Validation/BraTS19_TCIA02_001_1",
        ],
        ["name_mapping.csv", "survival_data.csv", "survival_evaluation.csv"],
        (OLD, "_", ".nii.gz", np.int16, {0, 1, 2, 4}),
    ),
    2020: (
        [
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001",
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_002",
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_003",
            "MICCAI_BraTS2020_TrainingData/BraTS20_Training_355",
            "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001",
        ],
        [
            "name_mapping.csv",
            "survival_info.csv",
            "name_mapping_validation_data.csv",
            "survival_evaluation.csv",
        ],
        (OLD, "_", ".nii", np.float32, {0, 1, 2, 4}),
    ),
    2021: (
        [*(f"BraTS2021_Training_Data/BraTS2021_0000{i}" for i in range(4)), "BraTS2021_ValidationData/BraTS2021_01001"],
        [],
        (OLD, "_", ".nii.gz", np.uint8, {0, 1, 2, 4}),
    ),
    2023: (
        [
            *(f"ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-0000{i}-000" for i in range(4)),
            "ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData/BraTS-GLI-01001-000",
        ],
        [],
        (NEW, "-", ".nii.gz", np.float32, {0, 1, 2, 3}),
    ),
    2024: (
        [
            "training_data1_v2/BraTS-GLI-01000-100",
            "training_data1_v2/BraTS-GLI-01000-101",
            "training_data1_v2/BraTS-GLI-01001-100",
            "training_data1_v2/BraTS-GLI-01002-100",
            "validation_data/BraTS-GLI-02000-100",
        ],
        [],
        (NEW, "-", ".nii.gz", np.float32, {0, 1, 2, 3, 4}),
    ),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folders = {}

    def make(year):
        if year not in folders:
            folders[year] = tmp_path_factory.mktemp("brats") / str(year)
            write_head_dataset(folders[year], year, 4, 1, config=TINY)
        return folders[year]

    return make


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


def rows(path):
    with path.open() as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("year", YEARS)
def test_layout_is_that_of_the_year(year, datasets):
    folders, tables, (suffixes, separator, ending, _, _) = EXPECTED[year]
    expected = []
    for folder in folders:
        name = folder.rpartition("/")[2]
        expected += [f"{folder}/{name}{separator}{suffix}{ending}" for suffix in suffixes]
        if name == "BraTS20_Training_355":
            expected.append(f"{folder}/W39_1998.09.19_Segm.nii")
        elif "alidation" not in folder:
            expected.append(f"{folder}/{name}{separator}seg{ending}")
    found = files(datasets(year))
    assert [name for name in found if not name.endswith(".csv")] == sorted(expected)
    assert sorted(name.rpartition("/")[2] for name in found if name.endswith(".csv")) == sorted(tables)


@pytest.mark.parametrize("year", YEARS)
def test_labels_and_data_types_are_those_of_the_year(year, datasets):
    *_, (_, _, ending, data_type, labels) = EXPECTED[year]
    found = set()
    for path in datasets(year).rglob("*[Ss]eg*.nii*"):
        segmentation = nibabel.load(path)
        assert segmentation.get_data_dtype() == data_type
        found |= set(np.unique(np.asarray(segmentation.dataobj)).tolist())
    assert found == labels
    assert {sitk.ReadImage(path).GetPixelID() for path in datasets(year).rglob(f"*t1*{ending}")} == {sitk.sitkInt16}


def test_all_files_of_a_case_have_one_geometry(datasets):
    for folder in (datasets(2021) / "BraTS2021_Training_Data").iterdir():
        images = [sitk.ReadImage(path) for path in folder.iterdir()]
        geometries = {(i.GetSize(), i.GetSpacing(), i.GetOrigin(), i.GetDirection()) for i in images}
        assert geometries == {((32, 32, 21), (7.5,) * 3, (3.25, -235.75, 3.25), (1, 0, 0, 0, 1, 0, 0, 0, 1))}


def test_largest_grid_is_that_of_brats(monkeypatch):
    # Only the grid is of interest, and drawing on it takes long.
    monkeypatch.setattr(cases, "render_head", lambda shape, grid: np.zeros((1, 1, 1), np.uint8))
    monkeypatch.setattr(cases, "render_sequence", lambda *_, **__: None)
    grid = cases.make_head_case(plan_head_jobs(2021, 1, 0, 0, HeadPhantomConfig(size=240))[0]).grid
    assert (grid.shape, grid.spacing, grid.origin) == ((155, 240, 240), (1.0,) * 3, (0.0, -239.0, 0.0))


def test_test_labels_lie_beside_their_images(tmp_path):
    write_head_dataset(tmp_path / "heads", 2023, 1, 1, config=TINY, test_labels=True)
    validation = tmp_path / "heads/ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData/BraTS-GLI-01001-000"
    assert (validation / "BraTS-GLI-01001-000-seg.nii.gz").is_file()


def test_without_test_cases_there_is_no_validation_folder(tmp_path):
    write_head_dataset(tmp_path / "heads", 2020, 1, config=TINY)
    assert [path.name for path in (tmp_path / "heads").glob("[!.]*")] == ["MICCAI_BraTS2020_TrainingData"]


def test_same_seed_same_files_whatever_the_processes(datasets, tmp_path):
    write_head_dataset(tmp_path / "heads", 2018, 4, 1, config=TINY, processes=2)
    assert digests(tmp_path / "heads") == digests(datasets(2018))


def test_a_case_depends_on_seed_year_and_number_only(datasets, tmp_path):
    write_head_dataset(tmp_path / "fewer", 2018, 2, config=TINY)
    write_head_dataset(tmp_path / "other", 2018, 2, seed=1, config=TINY)
    all_four, fewer, other = (digests(folder) for folder in (datasets(2018), tmp_path / "fewer", tmp_path / "other"))
    images = [name for name in fewer if name.endswith(".nii.gz")]
    assert len(images) == 10
    assert all(fewer[name] == all_four[name] != other[name] for name in images)


def test_years_show_other_patients(datasets):
    first = datasets(2021) / "BraTS2021_Training_Data/BraTS2021_00000/BraTS2021_00000_seg.nii.gz"
    second = next(datasets(2023).rglob("BraTS-GLI-00000-000-seg.nii.gz"))
    assert not np.array_equal(nibabel.load(first).dataobj, nibabel.load(second).dataobj)


@pytest.mark.parametrize(
    ("year", "table", "columns"),
    [
        (2018, "survival_data.csv", ["BraTS18ID", "Age", "Survival", "ResectionStatus"]),
        (2019, "survival_data.csv", ["BraTS19ID", "Age", "Survival", "ResectionStatus"]),
        (2020, "survival_info.csv", ["Brats20ID", "Age", "Survival_days", "Extent_of_Resection"]),
        (2018, "survival_evaluation.csv", ["BraTS18ID", "Age", "ResectionStatus"]),
        (2019, "survival_evaluation.csv", ["BraTS19ID", "Age", "ResectionStatus"]),
        (2020, "survival_evaluation.csv", ["BraTS20ID", "Age", "ResectionStatus"]),
    ],
)
def test_survival_tables_list_high_grade_cases_in_the_format_of_the_year(year, table, columns, datasets):
    path = next(datasets(year).rglob(table))
    header, *lines = rows(path)
    assert header == columns
    folders = {folder.name for folder in path.parent.rglob("B*") if folder.is_dir()}
    assert {line[0] for line in lines} <= folders
    assert not any("002" in line[0] for line in lines)
    assert all(19 <= float(line[1]) <= 88 for line in lines)
    assert all(line[-1] in ("GTR", "STR", "NA") for line in lines)


def test_mapping_tables_name_grade_and_case(datasets):
    header, *lines = rows(datasets(2020) / "MICCAI_BraTS2020_TrainingData" / "name_mapping.csv")
    assert header[0] == "Grade"
    assert header[-1] == "BraTS_2020_subject_ID"
    assert [(line[0], line[-1][-3:]) for line in lines] == [
        ("HGG", "001"),
        ("LGG", "002"),
        ("HGG", "003"),
        ("HGG", "355"),
    ]
    header, *lines = rows(datasets(2019) / "MICCAI_BraTS_2019_Data_Training" / "name_mapping.csv")
    assert header[-1] == "BraTS_2019_subject_ID"
    assert [line[-1] for line in lines] == [f"BraTS19_TCIA01_00{i}_1" for i in range(1, 5)]
    header, *lines = rows(datasets(2020) / "MICCAI_BraTS2020_ValidationData" / "name_mapping_validation_data.csv")
    assert "Grade" not in header
    assert [line[-1] for line in lines] == ["BraTS20_Validation_001"]


def test_phantom_is_replaced_only_on_demand(datasets, tmp_path):
    write_head_dataset(tmp_path / "heads", 2020, 1, config=TINY)
    with pytest.raises(InputError, match="add --overwrite"):
        write_head_dataset(tmp_path / "heads", 2021, 1, config=TINY)
    write_head_dataset(tmp_path / "heads", 2021, 1, config=TINY, overwrite=True)
    assert [path.name for path in (tmp_path / "heads").glob("[!.]*")] == ["BraTS2021_Training_Data"]


def test_real_data_are_never_replaced_although_their_names_are_those_of_phantoms(tmp_path):
    write_head_dataset(tmp_path / "heads", 2021, 1, config=TINY)
    image = next(tmp_path.rglob("*_flair.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16)), image)
    with pytest.raises(InputError, match="flair.nii.gz, which was changed since"):
        write_head_dataset(tmp_path / "heads", 2021, 1, config=TINY, overwrite=True)
    assert sitk.ReadImage(image).GetSize() == (4, 4, 4)


@pytest.mark.parametrize(
    "name",
    [
        "thesis.tex",
        "BraTS2021_Training_Data/notes.csv",
        "BraTS2021_Training_Data/a.nii.gz",
        "MICCAI_BraTS2020_TrainingData/survival_info.csv",
    ],
)
def test_foreign_files_are_never_replaced(name, tmp_path):
    path = tmp_path / "heads" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(InputError, match="was not written by this command"):
        write_head_dataset(tmp_path / "heads", 2021, 1, config=TINY, overwrite=True)
    assert path.read_text() == "precious"


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "make_head_case", fail)
    with pytest.raises(InputError, match="No space left"):
        write_head_dataset(tmp_path / "new" / "heads", 2021, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"year": 2022}, {"noise_sequence": "PD"}])
def test_unknown_years_and_sequences_are_answered_with_the_choices(wrong, tmp_path):
    with pytest.raises(InputError, match="choose one of"):
        write_head_dataset(tmp_path / "heads", cases=1, **wrong)


def test_every_third_treated_patient_has_two_visits():
    names = [job.name for job in plan_head_jobs(2024, 9, 0, 0, TINY)]
    assert len(set(names)) == 9
    patients = [name.split("-")[2] for name in names]
    assert patients == ["01000", "01000", "01001", "01002", "01003", "01003", "01004", "01005", "01006"]


def test_a_quarter_of_the_patients_is_low_grade():
    grades = [job.grade for job in plan_head_jobs(2018, 40, 0, 0, TINY)]
    assert grades.count("LGG") == 10
    assert grades[:4] == ["HGG", "LGG", "HGG", "HGG"]
