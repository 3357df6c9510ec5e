"""The commands on phantom hearts: what a user types, with processes for preprocessing and export."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow
CASES = ("ct_test_2001", "mr_test_2001", "pair_2001")


@pytest.fixture(scope="module")
def trained(hearts):
    hearts.train("ShortTrainer")
    return hearts


@pytest.fixture(scope="module")
def stock(trained):
    """Segmentations by the stock command."""
    trained.predict("ShortTrainer", trained.root / "stock", "--save_probabilities")
    return trained.root / "stock"


def predict(project, images, output, *flags):
    return project.run(
        "rl_nnunet_predict", "-i", images, "-o", output, "-d", project.id, "-c", "3d_fullres", "-f", 0, "-p",
        "RLXAlignSmallPlans", "-tr", "ShortTrainer", "-device", "cpu", "-npp", 2, "-nps", 1, "--disable_tta", *flags,
    )  # fmt: skip


def test_segmentations_are_those_of_the_stock_command(trained, stock):
    output = trained.root / "ours"
    predict(trained, trained.raw / "imagesTs", output, "--save_probabilities")
    for case in CASES:
        for ending in (".nii.gz", ".pkl"):
            assert (output / f"{case}{ending}").read_bytes() == (stock / f"{case}{ending}").read_bytes()
        probabilities = [np.load(folder / f"{case}.npz")["probabilities"] for folder in (output, stock)]
        np.testing.assert_array_equal(*probabilities)


def test_missing_files_are_those_that_the_converter_writes(trained, stock, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("ct_test_2001_0000", "mr_test_2001_0001", "pair_2001_0000", "pair_2001_0001"):
        shutil.copy(trained.raw / "imagesTs" / f"{name}.nii.gz", images)
    predict(trained, images, tmp_path / "out")
    for case in CASES:
        assert (tmp_path / "out" / f"{case}.nii.gz").read_bytes() == (stock / f"{case}.nii.gz").read_bytes()


def test_scan_as_it_came_is_segmented_in_its_own_axis_order(trained, stock, tmp_path):
    """The phantom's MR may be stored in any order; the data set is in LPS."""
    scan = trained.root / "phantom" / "mr_test" / "mr_test_2001_image.nii.gz"
    assert json.loads((trained.raw / "dataset.json").read_text())["rl_nnunet"]["orientation"] == "LPS"
    turned = tmp_path / "turned.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(scan), "RSA"), turned)
    predict(trained, turned, tmp_path / "out", "--modality", "MRI")
    expected = sitk.DICOMOrient(sitk.ReadImage(stock / "mr_test_2001.nii.gz"), "RSA")
    found = sitk.ReadImage(tmp_path / "out" / "turned.nii.gz")
    np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, (found, expected)))
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=1e-3)


def test_folders_of_several_grids_are_evaluated_by_the_stock_command(trained, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for branch, channel in (("CT", 0), ("MRI", 1)):
        (labels / branch).mkdir(parents=True)
        pictures = [
            trained.raw / "imagesTs" / f"pair_2001_{channel:04d}.nii.gz",
            trained.raw / "labelsTs" / "pair_2001.nii.gz",
        ]
        targets = [images / f"p_{channel:04d}.nii.gz", labels / branch / "p.nii.gz"]
        for picture, target in zip(pictures, targets, strict=True):
            image = sitk.ReadImage(picture)
            sitk.WriteImage(image[1:] if branch == "MRI" else image, target)  # a slice less: another grid
    printed = predict(trained, images, tmp_path / "out")
    assert "p: CT with MRI, by coordinates" in printed
    for branch in ("CT", "MRI"):
        output = tmp_path / "out" / branch
        trained.run(
            "nnUNetv2_evaluate_folder", labels / branch, output, "-djfile", output / "dataset.json", "-pfile",
            output / "plans.json", "-np", 1,
        )  # fmt: skip
        assert len(json.loads((output / "summary.json").read_text())["metric_per_case"]) == 1
