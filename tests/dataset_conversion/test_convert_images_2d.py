"""``rl_nnunet_convert_images_2d``: odd modes and sizes, classes by folders, tables and MURA; what is refused."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from rl_nnunet.case_table import read_case_table
from rl_nnunet.class_table import read_class_table
from rl_nnunet.dataset_conversion.convert_images_2d import main
from rl_nnunet.dataset_conversion.images_2d import find_images, read_pixels
from rl_nnunet.errors import InputError

RNG = np.random.default_rng(0)


def save(path, shape=(9, 7), mode="L", **options):
    """Write noise and return its values."""
    bands = {"L": 1, "I;16": 1, "RGB": 3, "RGBA": 4, "LA": 2}[mode]
    values = RNG.integers(0, 60000 if mode == "I;16" else 256, (*shape, bands))
    values = values.astype(np.uint16 if mode == "I;16" else np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values[..., 0] if bands == 1 else values).save(path, **options)
    return values.astype(float)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("color", [False, True])
def test_modes(tmp_path, mode, color):
    values = save(tmp_path / "image.png", mode=mode)
    gray = values[..., :3] @ [0.299, 0.587, 0.114] if values.shape[2] >= 3 else values[..., 0]
    expected = [gray] if not color else [values[..., c if values.shape[2] >= 3 else 0] for c in range(3)]
    found = read_pixels(tmp_path / "image.png", color=color)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_palette_is_its_colors(tmp_path):
    colors = Image.fromarray(RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)).quantize(16)
    colors.save(tmp_path / "image.png")
    expected = np.moveaxis(np.asarray(colors.convert("RGB"), float), -1, 0)
    np.testing.assert_allclose(read_pixels(tmp_path / "image.png", color=True), expected)


def test_jpeg_and_one_bit(tmp_path):
    save(tmp_path / "image.jpg", quality=95)
    assert read_pixels(tmp_path / "image.jpg", color=False).shape == (1, 9, 7)
    Image.fromarray(RNG.random((6, 5)) > 0.5).save(tmp_path / "bits.png")
    assert len(np.unique(read_pixels(tmp_path / "bits.png", color=False))) == 2


def test_classes_are_folders_in_parts(tmp_path):
    for name in (
        "train/NORMAL/a.png",
        "val/NORMAL/b.png",
        "test/NORMAL/c.png",
        "train/SICK/patient1/d.JPG",
        ".x/e.png",
    ):
        save(tmp_path / name)
    found = {image.case: (image.label, image.is_test, image.patient) for image in find_images(tmp_path)}
    assert found == {
        "train_NORMAL_a": ("NORMAL", False, "train_NORMAL_a"),
        "val_NORMAL_b": ("NORMAL", False, "val_NORMAL_b"),
        "test_NORMAL_c": ("NORMAL", True, "test_NORMAL_c"),
        "train_SICK_patient1_d": ("SICK", False, "patient1"),
    }


def test_layout_of_mura(tmp_path):
    save(tmp_path / "train" / "XR_ELBOW" / "patient00011" / "study1_negative" / "image1.png")
    save(tmp_path / "train" / "XR_HAND" / "patient00011" / "study2_positive" / "image1.png")
    found = [(image.label, image.patient) for image in find_images(tmp_path)]
    assert found == [("negative", "patient00011"), ("positive", "patient00011")]


@pytest.fixture
def pictures(tmp_path):
    """Six images of each of two classes, of different sizes and modes, and one test image."""
    for label in ("healthy", "sick"):
        for number in range(6):
            save(tmp_path / "pictures" / label / f"{number}.png", (8 + number, 9), ("L", "RGBA", "I;16")[number % 3])
    save(tmp_path / "pictures" / "test" / "sick" / "new.png")
    return tmp_path / "pictures"


def convert(run, folder, *flags):
    return run(main, "-i", folder, "-d", 7, "-n", "Pictures", "-np", 1, *flags)


def test_the_command_writes_a_classification_data_set(run, nnunet_folders, pictures):
    outcome = convert(run, pictures)
    assert outcome.code == 0, outcome.err
    folder = nnunet_folders / "nnUNet_raw" / "Dataset007_Pictures"
    described = json.loads((folder / "dataset.json").read_text())
    assert described["rl_nnunet"]["classes"] == ["healthy", "sick"]
    assert described["rl_nnunet"]["crop"] == "image"
    rows = {row.case: row for row in read_class_table(folder / "classification.csv")}
    assert len(rows) == 13
    assert rows["test_sick_new"].split == "test"
    image = sitk.GetArrayFromImage(sitk.ReadImage(folder / "imagesTr" / "sick_1_0000.nii.gz"))
    np.testing.assert_allclose(image, read_pixels(pictures / "sick" / "1.png", color=False), rtol=1e-5)
    label = sitk.GetArrayFromImage(sitk.ReadImage(folder / "labelsTr" / "sick_1.nii.gz"))
    assert label.shape == image.shape == (1, 9, 9)
    assert (label == 1).all()
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert {rows[case].label for case in fold["val"]} == {"healthy", "sick"}


def test_colors_and_a_table(run, nnunet_folders, pictures):
    table = pictures / "labels.csv"
    lines = [f"{label}/{number}.png;{number % 2}" for label in ("healthy", "sick") for number in range(6)]
    table.write_text("\ufeffFile;Label\r\n" + "\r\n".join(lines))
    outcome = convert(run, pictures, "--table", table, "--color")
    assert outcome.code == 0, outcome.err
    folder = nnunet_folders / "nnUNet_raw" / "Dataset007_Pictures"
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert {row.label for row in read_class_table(folder / "classification.csv")} == {"0", "1"}


BAD = {
    "one pixel": (lambda f: save(f / "sick" / "6.png", (1, 1)), "6.png has 1x1 pixels, which show nothing"),
    "one value": (lambda f: Image.new("L", (5, 5), 9).save(f / "sick" / "6.png"), "has one value everywhere"),
    "no image": (lambda f: (f / "sick" / "6.png").write_bytes(b"no"), "6.png cannot be read as an image"),
    "no class": (lambda f: save(f / "6.png"), "6.png lies in no folder of a class"),
    "one name": (lambda f: save(f / "sick" / "0.jpg"), "would both become the case sick_0"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_refused(run, nnunet_folders, pictures, assert_refused_in_one_sentence, spoil, sentence):
    spoil(pictures)
    assert_refused_in_one_sentence(convert(run, pictures), sentence)
    assert not list((nnunet_folders / "nnUNet_raw").iterdir())


def test_a_table_that_does_not_fit_is_refused(run, pictures, assert_refused_in_one_sentence):
    table = pictures / "labels.csv"
    for content, sentence in (
        ("file,label\nsick/9.png,a\n", "names sick/9.png, but there is no"),
        ("file,class\nsick/1.png,a\n", "has no column label"),
        ("file,label\nsick/1.png,\n", "states no label of sick/1.png"),
        ("file,label\nsick/1.png,a\nsick/1.png,b\n", "would both become the case sick_1"),
        ("file,label\nsick/1.png,a\nsick/2.png,a\n", "The training images have one class, a"),
    ):
        table.write_text(content)
        assert_refused_in_one_sentence(convert(run, pictures, "--table", table), sentence)


def test_a_stack_of_slices_is_refused(tmp_path):
    pages = [Image.fromarray(RNG.integers(0, 9, (5, 5)).astype(np.uint8)) for _ in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="has 3 slices"):
        read_pixels(tmp_path / "stack.tif", color=False)


# ---- DICOM ---------------------------------------------------------------------------------------------------------


def save_dicom(path, values, tags=()):
    """Write values as a DICOM file, whatever it is called, with some tags."""
    image = sitk.GetImageFromArray(values, isVector=values.ndim == 3 and values.shape[-1] == 3)
    for tag, value in dict(tags).items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.Execute(image)
    return values.astype(float)


RAYS = RNG.integers(0, 4096, (9, 7)).astype(np.uint16)


@pytest.mark.parametrize("name", ["image.dcm", "IMAGE.DCM", "IM000001", "1.2.840.113619.2", "image.png"])
def test_dicom_whatever_it_is_called(tmp_path, name):
    values = save_dicom(tmp_path / name, RAYS)
    found = read_pixels(tmp_path / name, color=False)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [values])
    np.testing.assert_array_equal(read_pixels(tmp_path / name, color=True), [values] * 3)


def test_the_rescale_of_dicom_is_applied(tmp_path):
    """What is written is stored as (value - intercept) / slope."""
    path = tmp_path / "image.dcm"
    values = save_dicom(path, 2 * RAYS.astype(np.int32) - 100, {"0028|1052": "-100", "0028|1053": "2"})
    np.testing.assert_array_equal(read_pixels(path, color=False), [values])
    stored = np.frombuffer(path.read_bytes()[-4 * RAYS.size :], np.int32)
    np.testing.assert_array_equal(stored.reshape(RAYS.shape), RAYS)


def test_where_low_is_meant_to_be_bright_it_is_made_so(tmp_path):
    path = tmp_path / "image.dcm"
    values = save_dicom(path, RAYS)
    content = path.read_bytes()
    assert content.count(b"MONOCHROME2") == 1
    path.write_bytes(content.replace(b"MONOCHROME2", b"MONOCHROME1"))
    found = read_pixels(path, color=False)[0]
    np.testing.assert_array_equal(found + values, np.full(values.shape, found.flat[0] + values.flat[0]))
    assert found.min() >= 0


def test_dicom_files_are_found_without_ending_and_named_in_full(tmp_path):
    for name in ("a/IM1", "a/patient1/1.2.840.5", "b/1.2.840.6", "b/x.dcm"):
        save_dicom(tmp_path / name, RAYS)
    save_dicom(tmp_path / "DICOMDIR", RAYS)
    for name in ("a/README", "a/notes.txt", "a/1.5"):
        (tmp_path / name).write_text("no image")
    found = {image.case: (image.label, image.patient) for image in find_images(tmp_path)}
    assert found == {
        "a_IM1": ("a", "a_IM1"),
        "a_patient1_1.2.840.5": ("a", "patient1"),
        "b_1.2.840.6": ("b", "b_1.2.840.6"),
        "b_x": ("b", "b_x"),
    }


def test_images_of_a_patient_stay_together_and_the_table_of_cases_says_whose_they_are(run, nnunet_folders, tmp_path):
    for label in ("healthy", "sick"):
        for number in range(6):
            save(tmp_path / "xrays" / label / f"patient{label}{number // 2}" / f"{number}.png")
    outcome = convert(run, tmp_path / "xrays", "--folds", 3)
    assert outcome.code == 0, outcome.err
    folder = nnunet_folders / "nnUNet_raw" / "Dataset007_Pictures"
    patients = {row.case: row.patient for row in read_case_table(folder / "cases.csv")}
    assert patients["sick_patientsick1_2"] == patients["sick_patientsick1_3"] == "patientsick1"
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert not {patients[case] for case in fold["train"]} & {patients[case] for case in fold["val"]}


def test_the_command_takes_dicom_beside_pictures(run, nnunet_folders, pictures):
    values = save_dicom(pictures / "sick" / "1.2.840.7", RAYS)
    outcome = convert(run, pictures)
    assert outcome.code == 0, outcome.err
    folder = nnunet_folders / "nnUNet_raw" / "Dataset007_Pictures"
    image = sitk.GetArrayFromImage(sitk.ReadImage(folder / "imagesTr" / "sick_1.2.840.7_0000.nii.gz"))
    np.testing.assert_array_equal(image, [values])


BAD_DICOM = {
    "several frames": (lambda f: save_dicom(f, np.stack([RAYS] * 3)), "has 3 frames; give one file a frame"),
    "color": (lambda f: save_dicom(f, RNG.integers(0, 255, (9, 7, 3)).astype(np.uint8)), "is a DICOM image in color"),
    "no image": (lambda f: f.write_bytes(b"no"), "6.dcm cannot be read as a DICOM image"),
    "truncated": (
        lambda f: (save_dicom(f, RAYS), f.write_bytes(f.read_bytes()[:-40])),
        "6.dcm cannot be read as a DICOM image",
    ),
    "one pixel": (lambda f: save_dicom(f, RAYS[:1, :1]), "6.dcm has 1x1 pixels, which show nothing"),
    "one value": (lambda f: save_dicom(f, np.full_like(RAYS, 9)), "6.dcm has one value everywhere"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD_DICOM.values(), ids=BAD_DICOM)
def test_dicom_that_cannot_be_used_is_refused(
    run, nnunet_folders, pictures, assert_refused_in_one_sentence, spoil, sentence
):
    spoil(pictures / "sick" / "6.dcm")
    assert_refused_in_one_sentence(convert(run, pictures), sentence)
    assert not list((nnunet_folders / "nnUNet_raw").iterdir())
