"""The command on models of a few weights: the stock command's segmentations, and what it cannot take."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_models import RL_U2NET, STOCK, write_model


def stock_predict(model, cases, folds=(0,), **options):
    """Predict cases, each a list of files, with nnU-Net's own predictor; `cases` maps outputs to files."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), list(folds), "checkpoint_final.pth")
    outputs = list(cases)
    outputs[0].parent.mkdir(exist_ok=True)
    files = [[str(file) for file in cases[output]] for output in outputs]
    predictor.predict_from_files_sequential(files, [str(output) for output in outputs], **options)


def blank_like(image, path):
    blank = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    blank.CopyInformation(image)
    sitk.WriteImage(blank, path)
    return path


def same_geometry(one, other):
    images = [sitk.ReadImage(file) for file in (one, other)]
    assert images[0].GetSize() == images[1].GetSize()
    for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(*(getattr(image, getter)() for image in images), atol=1e-4)


@pytest.mark.parametrize(("network", "dimension"), [(RL_U2NET, 3), (RL_U2NET, 2), (STOCK, 3)])
def test_complete_cases_are_the_stock_commands(patient, predict, network, dimension):
    model = write_model(patient.root / "other", network, dimension, folds=(0, 1))
    outcome = predict(model, patient.images, patient.output, "-f", 0, 1, "--save_probabilities")
    assert outcome.code == 0, outcome.err
    files = sorted(patient.images.iterdir())
    stock_predict(model, {patient.root / "stock" / "p1": files}, folds=(0, 1), save_probabilities=True)
    assert (patient.output / "p1.nii.gz").read_bytes() == (patient.root / "stock" / "p1.nii.gz").read_bytes()
    ours, stock = (np.load(folder / "p1.npz")["probabilities"] for folder in (patient.output, patient.root / "stock"))
    np.testing.assert_array_equal(ours, stock)
    assert (patient.output / "p1.pkl").read_bytes() == (patient.root / "stock" / "p1.pkl").read_bytes()
    for name in ("dataset.json", "plans.json"):
        assert json.loads((patient.output / name).read_text()) == json.loads((model / name).read_text())
    assert not list(patient.output.glob(".*"))


@pytest.mark.parametrize("network", [RL_U2NET, STOCK])
@pytest.mark.parametrize("missing", [0, 1])
def test_missing_file_is_a_blank_one(patient, predict, network, missing):
    model = write_model(patient.root / "other", network)
    file = patient.images / f"p1_{missing:04d}.nii.gz"
    blank_like(patient.ct, file)
    stock_predict(model, {patient.root / "stock" / "p1": sorted(patient.images.iterdir())})
    file.unlink()
    assert predict(model, patient.images, patient.output).code == 0
    assert (patient.output / "p1.nii.gz").read_bytes() == (patient.root / "stock" / "p1.nii.gz").read_bytes()


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan_0000.nii.gz", "scan.nrrd"])
def test_one_file_with_its_modality(patient, predict, name, values):
    file = patient.root / name
    sitk.WriteImage(patient.mr, file)
    assert predict(patient.model, file, patient.output, "--modality", "MR").code == 0
    blank = blank_like(patient.mr, patient.images / "p1_0000.nii.gz")
    stock_predict(patient.model, {patient.root / "stock" / "p1": [blank, patient.images / "p1_0001.nii.gz"]})
    np.testing.assert_array_equal(values(patient.output / "scan.nii.gz"), values(patient.root / "stock" / "p1.nii.gz"))


# ---- several grids -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_grids(patient, make_scan):
    """The patient, with the MR on another grid, which covers a part of the CT."""
    mr = make_scan(1, size=(11, 15, 6), spacing=(1.7, 1.2, 4.0), origin=(-6.0, 5.0, 26.0), offset=400)
    sitk.WriteImage(mr, patient.images / "p1_0001.nii.gz")
    patient.mr = mr
    return patient


@pytest.mark.parametrize("dimension", [2, 3])
def test_every_scan_is_segmented_on_its_own_grid(two_grids, predict, dimension):
    model = write_model(two_grids.root / "other", dimension=dimension)
    outcome = predict(model, two_grids.images, two_grids.output, "--save_probabilities")
    assert outcome.code == 0, outcome.err
    assert "p1: CT with MR, by coordinates, because" in outcome.out
    assert "assumption" in outcome.out
    flags = ("--save_probabilities", "--pairing", "none")
    alone = predict(model, two_grids.images, two_grids.root / "alone", *flags)
    assert "with" not in alone.out
    for channel, branch in enumerate(("CT", "MR")):
        file = two_grids.output / branch / "p1.nii.gz"
        same_geometry(file, two_grids.images / f"p1_{channel:04d}.nii.gz")
        assert (file.parent / "dataset.json").is_file()
        folders = (file.parent, two_grids.root / "alone" / branch)
        probabilities = [np.load(folder / "p1.npz")["probabilities"] for folder in folders]
        assert np.abs(probabilities[0] - probabilities[1]).max() > 0.01  # the companion is seen


def test_scans_without_companion_are_those_of_missing_files(two_grids, predict):
    assert predict(two_grids.model, two_grids.images, two_grids.root / "alone", "--pairing", "none").code == 0
    for channel, branch in enumerate(("CT", "MR")):
        images = two_grids.root / f"only_{branch}"
        images.mkdir()
        shutil.copy(two_grids.images / f"p1_{channel:04d}.nii.gz", images)
        predict(two_grids.model, images, two_grids.root / f"out_{branch}")
        found = two_grids.root / "alone" / branch / "p1.nii.gz"
        assert found.read_bytes() == (two_grids.root / f"out_{branch}" / "p1.nii.gz").read_bytes()


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0)])
def test_companion_on_the_same_grid_but_for_a_hair_is_that_of_the_stock_command(patient, predict, transpose):
    """One branch's logits and the other's, whose mean the stock command takes; here, both scans lie on one grid."""
    moved = sitk.Image(patient.mr)
    moved.SetOrigin([place + 0.3 for place in patient.mr.GetOrigin()])  # a fifth of a voxel: two grids, one window
    sitk.WriteImage(moved, patient.images / "p1_0001.nii.gz")
    flags = ("--save_probabilities", "--pairing", "physical")
    model = write_model(patient.root / "other", transpose=transpose)
    assert predict(model, patient.images, patient.output, *flags).code == 0
    sitk.WriteImage(patient.mr, patient.images / "p1_0001.nii.gz")
    assert predict(model, patient.images, patient.root / "one", "--save_probabilities").code == 0
    logits = [np.log(np.load(patient.output / branch / "p1.npz")["probabilities"]) for branch in ("CT", "MR")]
    mean = np.exp(np.mean(logits, axis=0))
    expected = np.load(patient.root / "one" / "p1.npz")["probabilities"]
    # nnU-Net adds up in half precision: at the edge, where the Gaussian is small, hardly anything is left of it.
    assert np.isclose(mean / mean.sum(0), expected, atol=0.02).mean() > 0.98


def test_network_that_fuses_voxel_by_voxel_sees_companions_on_its_grid(two_grids, predict):
    """What people do today: resample the other scan, and predict with two channels."""
    model = write_model(two_grids.root / "other", STOCK)
    assert predict(model, two_grids.images, two_grids.output, "--pairing", "physical").code == 0
    scans = {"CT": two_grids.ct, "MR": two_grids.mr}
    for target, scan in scans.items():
        folder = two_grids.root / f"resampled_{target}"
        folder.mkdir()
        for channel, other in enumerate(scans.values()):
            resampled = sitk.Resample(sitk.Cast(other, sitk.sitkFloat32), scan, sitk.Transform(), sitk.sitkLinear, 0.0)
            sitk.WriteImage(resampled, folder / f"p1_{channel:04d}.nii.gz")
        stock_predict(model, {folder / "p1": sorted(folder.glob("*.nii.gz"))})
        found = two_grids.output / target / "p1.nii.gz"
        assert found.read_bytes() == (folder / "p1.nii.gz").read_bytes()


def test_relative_extent_does_not_depend_on_where_the_header_puts_a_scan(two_grids, predict, values):
    assert predict(two_grids.model, two_grids.images, two_grids.output, "--pairing", "relative").code == 0
    elsewhere = sitk.Image(two_grids.mr)
    elsewhere.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(elsewhere, two_grids.images / "p1_0001.nii.gz")
    outcome = predict(two_grids.model, two_grids.images, two_grids.root / "elsewhere")
    assert "by relative extent, because their boxes do not overlap" in outcome.out
    for branch in ("CT", "MR"):
        files = (two_grids.output / branch / "p1.nii.gz", two_grids.root / "elsewhere" / branch / "p1.nii.gz")
        np.testing.assert_array_equal(*map(values, files))


def test_all_segmentations_go_by_branch_if_some_do(two_grids, predict, make_scan):
    sitk.WriteImage(make_scan(5), two_grids.images / "p2_0000.nii.gz")
    for channel in range(2):
        sitk.WriteImage(make_scan(6 + channel), two_grids.images / f"p3_{channel:04d}.nii.gz")
    assert predict(two_grids.model, two_grids.images, two_grids.output).code == 0
    found = {str(path.relative_to(two_grids.output)) for path in two_grids.output.rglob("*.nii.gz")}
    assert found == {"CT/p1.nii.gz", "MR/p1.nii.gz", "CT/p2.nii.gz", "CT+MR/p3.nii.gz"}


# ---- DICOM, and axis orders ----------------------------------------------------------------------------------------


def test_dicom_is_the_nifti_of_the_same_scan(patient, predict, write_dicom, values):
    assert predict(patient.model, patient.images, patient.output).code == 0
    dicom = patient.root / "dicom"
    for channel, scan in enumerate((patient.ct, patient.mr)):
        geometry = (scan.GetSpacing(), scan.GetOrigin())
        write_dicom(dicom / f"p1_{channel:04d}", sitk.GetArrayFromImage(scan), *geometry, series=f"1.2.826.{channel}")
    outcome = predict(patient.model, dicom, patient.root / "of_dicom")
    assert outcome.code == 0, outcome.err
    files = (patient.output / "p1.nii.gz", patient.root / "of_dicom" / "p1.nii.gz")
    np.testing.assert_array_equal(*map(values, files))
    same_geometry(*files)


def test_one_series_with_its_modality(patient, predict, write_dicom, values):
    scan = patient.mr
    folder = write_dicom(patient.root / "SE0001", sitk.GetArrayFromImage(scan), scan.GetSpacing(), scan.GetOrigin())
    assert predict(patient.model, folder, patient.output, "--modality", "MR").code == 0
    predict(patient.model, patient.images / "p1_0001.nii.gz", patient.root / "nifti", "--modality", "MR")
    files = (patient.output / "SE0001.nii.gz", patient.root / "nifti" / "p1.nii.gz")
    np.testing.assert_array_equal(*map(values, files))


def test_frames_of_reference_decide(two_grids, predict, write_dicom):
    for name, frames, expected in (
        ("one", ("1.2.1", "1.2.1"), "by coordinates, because they share"),
        ("two", ("1.2.1", "1.2.2"), "by relative extent, because their frames of reference differ"),
    ):
        folder = two_grids.root / name
        for channel, scan in enumerate((two_grids.ct, two_grids.mr)):
            geometry = (scan.GetSpacing(), scan.GetOrigin())
            uids = {"series": f"1.2.826.{channel}", "frame": frames[channel]}
            write_dicom(folder / f"p1_{channel:04d}", sitk.GetArrayFromImage(scan), *geometry, **uids)
        assert expected in predict(two_grids.model, folder, two_grids.root / f"out_{name}").out


@pytest.mark.parametrize("code", ["RAS", "SLA", "PIR"])
@pytest.mark.parametrize("network", [RL_U2NET, STOCK])
def test_segmentations_come_back_in_the_order_of_the_scan(two_grids, predict, code, network):
    """Stored in whatever order, a scan has one segmentation."""
    model = write_model(two_grids.root / "other", network, orientation="LPS")
    assert predict(model, two_grids.images, two_grids.output).code == 0
    turned = two_grids.root / "turned"
    turned.mkdir()
    for channel, scan in enumerate((two_grids.ct, two_grids.mr)):
        sitk.WriteImage(sitk.DICOMOrient(scan, code), turned / f"p1_{channel:04d}.nii.gz")
    assert predict(model, turned, two_grids.root / "of_turned").code == 0
    for channel, branch in enumerate(("CT", "MR")):
        found = two_grids.root / "of_turned" / branch / "p1.nii.gz"
        same_geometry(found, turned / f"p1_{channel:04d}.nii.gz")
        expected = sitk.DICOMOrient(sitk.ReadImage(two_grids.output / branch / "p1.nii.gz"), code)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(found)), sitk.GetArrayFromImage(expected))


def test_without_a_record_axes_are_left_as_they_are(patient, predict):
    """As in the stock command."""
    for channel, scan in enumerate((patient.ct, patient.mr)):
        sitk.WriteImage(sitk.DICOMOrient(scan, "SLA"), patient.images / f"p1_{channel:04d}.nii.gz")
    for record in ({}, {"orientation": "keep"}):
        model = write_model(patient.root / f"model_{len(record)}", **record)
        output = patient.root / f"out_{len(record)}"
        assert predict(model, patient.images, output).code == 0
        stock_predict(model, {patient.root / "stock" / "p1": sorted(patient.images.iterdir())})
        assert (output / "p1.nii.gz").read_bytes() == (patient.root / "stock" / "p1.nii.gz").read_bytes()


def test_a_model_of_another_form_is_refused_in_a_sentence(patient, predict, assert_refused_in_one_sentence):
    file = patient.model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    del checkpoint["network_weights"]["xalign.1.form"]
    torch.save(checkpoint, file)
    outcome = predict(patient.model, patient.images, patient.output)
    assert_refused_in_one_sentence(outcome, "xalign.1", "another version of rl_nnunet", "train anew")
    assert not patient.output.exists()
