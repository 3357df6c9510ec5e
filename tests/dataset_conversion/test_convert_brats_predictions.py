"""What rl_nnunet_convert_brats_predictions writes, and what it refuses."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.dataset_conversion.brats import YEARS
from rl_nnunet.dataset_conversion.convert_brats_predictions import main
from rl_nnunet.files import MARKER


@pytest.fixture
def predictions(tmp_path):
    """Return a function that writes two predictions and the dataset.json beside them, and returns their folder."""

    def write(values=range(4), year=2021, **record):
        folder = tmp_path / "predictions"
        folder.mkdir()
        for name in ("one", "two"):
            labels = np.zeros((5, 6, 7), np.uint8)
            labels[1, 1, : len(values)] = values
            image = sitk.GetImageFromArray(labels)
            image.SetSpacing((1.0, 2.0, 5.0))
            image.SetOrigin((3.0, -4.0, 5.0))
            sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
        (folder / "dataset.json").write_text(json.dumps({"rl_nnunet": {"brats_year": year, **record}}))
        return folder

    return write


@pytest.fixture
def convert(run, tmp_path):
    """Return a function that runs the command and returns the output folder and the outcome."""

    def run_command(folder, *arguments):
        output = tmp_path / "output"
        return output, run(main, "-i", folder, "-o", output, "-np", 1, *arguments)

    return run_command


@pytest.fixture
def refused(tmp_path, assert_refused):
    """Return a function that checks that the command ended in one sentence and wrote nothing."""

    def check(outcome, *fragments):
        assert_refused(outcome, *fragments)
        assert not (tmp_path / "output").exists()
        assert not list(tmp_path.glob(".rl_nnunet*"))

    return check


@pytest.mark.parametrize("year", YEARS)
def test_forth_and_back_is_the_identity(year, run_brats, convert, brats_phantom, raw):
    source = brats_phantom(year)
    run_brats(source)
    folder = raw / "Dataset503_BraTS"
    labels = folder / "labelsTr"
    (folder / "dataset.json").rename(labels / "dataset.json")
    output, outcome = convert(labels)
    assert outcome.code == 0, outcome.err
    written = sorted(output.glob("*.nii.gz"))
    assert len(written) == 5
    for path in written:
        case = path.name.removesuffix(".nii.gz")
        (segmentation,) = (p for p in source.rglob(f"{case}/*") if "seg" in p.name.lower())
        converted, original = sitk.ReadImage(str(path)), sitk.ReadImage(str(segmentation))
        assert converted.GetPixelID() == sitk.sitkUInt8
        assert converted.IsSameImageGeometryAs(original, 1e-6, 1e-6)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(converted), sitk.GetArrayFromImage(original))


def test_values_and_summary(predictions, convert):
    output, outcome = convert(predictions((0, 1, 2, 3, 3)))
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "two.nii.gz")))
    assert labels[1, 1].tolist() == [0, 2, 1, 4, 4, 0, 0]
    assert sorted(os.listdir(output)) == [MARKER, "one.nii.gz", "two.nii.gz"]
    assert "2 cases with the label values of BraTS 2021" in outcome.out
    # Voxels of 10 mm³.
    assert "whole tumor 0.04, tumor core 0.03, enhancing tumor 0.02." in outcome.out
    assert "Notice" not in outcome.out


def test_year_from_the_command_line(predictions, convert):
    folder = predictions(range(5))
    (folder / "dataset.json").unlink()
    output, outcome = convert(folder, "--year", 2024)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "one.nii.gz")))
    assert labels[1, 1].tolist() == [0, 2, 1, 3, 4, 0, 0]
    assert "resection cavity 0.01" in outcome.out


def test_background_only(predictions, convert):
    _, outcome = convert(predictions(()))
    assert outcome.code == 0
    assert "whole tumor 0," in outcome.out


def test_two_processes(predictions, convert):
    output, outcome = convert(predictions(), "-np", 2)
    assert outcome.code == 0
    assert len(os.listdir(output)) == 3


def test_other_axis_order_is_noticed(predictions, convert):
    _, outcome = convert(predictions(orientation="RAS"))
    assert "Notice: the data set was converted with --orientation RAS" in outcome.out


def test_overwrite(predictions, convert):
    folder = predictions()
    output, _ = convert(folder)
    _, outcome = convert(folder)
    assert (outcome.code, f"{output} exists already" in outcome.err) == (2, True)
    (folder / "one.nii.gz").rename(folder / "three.nii.gz")
    assert convert(folder, "--overwrite")[1].code == 0
    assert sorted(os.listdir(output)) == [MARKER, "three.nii.gz", "two.nii.gz"]


def test_folder_with_something_else_is_never_replaced(predictions, convert):
    folder = predictions()
    output, _ = convert(folder)
    (output / "thesis.txt").touch()
    _, outcome = convert(folder, "--overwrite")
    assert (outcome.code, "holds something else, thesis.txt" in outcome.err) == (2, True)
    assert (output / "thesis.txt").exists()


def test_predictions_are_not_replaced(predictions, run, refused):
    folder = predictions()
    refused(run(main, "-i", folder, "-o", folder, "--overwrite"), "was not written by this command")
    assert len(os.listdir(folder)) == 3


@pytest.mark.parametrize(("values", "year"), [((0, 4), 2021), ((0, 4), 2023), ((5,), 2024)])
def test_impossible_value(values, year, predictions, convert, refused):
    folder = predictions(values, year)
    refused(convert(folder)[1], folder / "one.nii.gz", f"holds the value {values[-1]}", "1 more, two.nii.gz")


def test_truncated_prediction(predictions, convert, refused):
    path = predictions() / "one.nii.gz"
    path.write_bytes(path.read_bytes()[:-10])
    refused(convert(path.parent)[1], path, "is truncated")


def test_no_predictions(convert, refused, tmp_path):
    refused(convert(tmp_path / "nowhere")[1], "There is no folder")
    (tmp_path / "empty").mkdir()
    refused(convert(tmp_path / "empty")[1], "holds no .nii.gz file")


@pytest.mark.parametrize(
    ("content", "arguments", "fragment"),
    [
        ("{}", (), "add --year"),
        ("{", (), "cannot be read"),
        ("[]", (), "cannot be read"),
        ('{"rl_nnunet": "x"}', (), "cannot be read"),
        ('{"rl_nnunet": null}', (), "cannot be read"),
        ('{"rl_nnunet": []}', (), "cannot be read"),
        ("[" * 100_000, (), "cannot be read"),
        ("\udcff", (), "cannot be read"),
        ('{"rl_nnunet": {"brats_year": "2021"}}', (), "records BraTS '2021'"),
        ('{"rl_nnunet": {"brats_year": null}}', (), "add --year"),
        ('{"rl_nnunet": {"brats_year": 2021}}', ("--year", 2023), "--year 2023"),
        ('{"rl_nnunet": {"brats_year": 1999}}', (), "records BraTS 1999"),
        ('{"rl_nnunet": {"brats_year": [2021]}}', (), "records BraTS [2021]"),
    ],
)
def test_year_is_not_clear(content, arguments, fragment, predictions, convert, refused):
    folder = predictions()
    (folder / "dataset.json").write_text(content, errors="surrogateescape")
    refused(convert(folder, *arguments)[1], fragment)


def test_output_that_cannot_be_written(predictions, run, refused):
    folder = predictions()
    output = folder / "dataset.json" / "output"
    refused(run(main, "-i", folder, "-o", output), f"{output} cannot be written (")


def test_predictions_that_are_no_files(predictions, convert, refused):
    folder = predictions()
    (folder / "zero.nii.gz").mkdir()
    refused(convert(folder)[1], folder / "zero.nii.gz", "is no file")
    (folder / "zero.nii.gz").rmdir()
    os.mkfifo(folder / "zero.nii.gz")
    refused(convert(folder)[1], folder / "zero.nii.gz", "is no file")
    (folder / "zero.nii.gz").unlink()
    (folder / "zero.nii.gz").symlink_to("nowhere")
    refused(convert(folder)[1], folder / "zero.nii.gz", "is no file")


def test_dataset_json_that_is_a_folder(predictions, convert, refused):
    folder = predictions()
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").mkdir()
    refused(convert(folder)[1], folder / "dataset.json", "cannot be read")


def test_input_that_is_a_file(predictions, convert, refused):
    refused(convert(predictions() / "one.nii.gz")[1], "There is no folder")
