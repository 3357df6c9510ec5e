"""The second stage of nnU-Net's own cascade, by both commands: each gives the other's segmentations."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.slow
TRAINER = "ShortStock"
STAGES = ("3d_lowres", "3d_cascade_fullres")
CASES = ("ct_test_2001", "mr_test_2001", "pair_2001")


def make_cascade(file):
    """Add a first stage of half the resolution to plans, which nnU-Net plans for large images only."""
    plans = json.loads(file.read_text())
    first, second = STAGES
    fine = plans["configurations"]["3d_fullres"]
    coarse = {"spacing": [2 * step for step in fine["spacing"]], "data_identifier": f"nnUNetPlans_{first}"}
    plans["configurations"][first] = {**fine, **coarse, "next_stage": second}
    plans["configurations"][second] = {"inherits_from": "3d_fullres", "previous_stage": first}
    file.write_text(json.dumps(plans))


@pytest.fixture(scope="module")
def cascade(hearts, tmp_path_factory, make_project):
    """A trained cascade of stock networks."""
    import shutil

    project = make_project(tmp_path_factory.mktemp("cascade"), hearts.name)
    shutil.copytree(hearts.raw, project.raw)
    project.run("nnUNetv2_plan_and_preprocess", "-d", project.id, "-c", "3d_fullres", "-npfp", 1, "-np", 1, "--no_pp")
    make_cascade(project.preprocessed / "nnUNetPlans.json")
    project.run("nnUNetv2_preprocess", "-d", project.id, "-c", "3d_lowres", "3d_fullres", "-np", 1, 1)
    for stage in STAGES:
        words = ("nnUNetv2_train", project.id, stage, "all", "-tr", TRAINER, "-device", "cpu")
        project.run(*words, nnUNet_n_proc_DA="0")
    return project


def predict(project, command, images, output, stage, *flags):
    project.run(
        command, "-i", images, "-o", output, "-d", project.id, "-c", stage, "-f", "all", "-tr", TRAINER, "-device",
        "cpu", "-npp", 1, "-nps", 1, "--disable_tta", *flags,
    )  # fmt: skip
    return output


def test_both_stages(cascade, tmp_path):
    before = None
    for stage in STAGES:
        flags = () if before is None else ("-prev_stage_predictions", before)
        outputs = [
            predict(cascade, command, cascade.raw / "imagesTs", tmp_path / command / stage, stage, *flags)
            for command in ("nnUNetv2_predict", "rl_nnunet_predict")
        ]
        for case in CASES:
            one, other = ((output / f"{case}.nii.gz").read_bytes() for output in outputs)
            assert one == other
        before = outputs[0]


def test_a_scan_in_its_own_axis_order(cascade, tmp_path):
    """Its first segmentation is in that order, too, and is turned with it."""
    images = {order: tmp_path / order for order in ("LPS", "RSA")}
    for order, folder in images.items():
        folder.mkdir()
        scan = sitk.ReadImage(cascade.raw / "imagesTs" / "ct_test_2001_0000.nii.gz")
        sitk.WriteImage(sitk.DICOMOrient(scan, order), folder / "ct_0000.nii.gz")
    found = {}
    for order, folder in images.items():
        first = predict(cascade, "rl_nnunet_predict", folder, tmp_path / f"{order}_1", STAGES[0])
        flags = ("-prev_stage_predictions", first)
        second = predict(cascade, "rl_nnunet_predict", folder, tmp_path / f"{order}_2", STAGES[1], *flags)
        found[order] = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(second / "ct.nii.gz"), "LPS"))
    np.testing.assert_array_equal(found["RSA"], found["LPS"])


def test_a_first_stage_that_is_missing(cascade, tmp_path):
    words = ("-d", cascade.id, "-c", STAGES[1], "-f", "all", "-tr", TRAINER, "-device", "cpu")
    images = cascade.raw / "imagesTs"
    printed = cascade.run("rl_nnunet_predict", "-i", images, "-o", tmp_path / "out", *words, code=2)
    assert "predict with 3d_lowres first, and give the folder of its segmentations" in printed
    flags = ("-prev_stage_predictions", tmp_path / "none", "-npp", 0, "-nps", 0)
    printed = cascade.run("rl_nnunet_predict", "-i", images, "-o", tmp_path / "out", *words, *flags, code=2)
    assert "the segmentation of the previous stage; predict it first." in printed.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*.nii.gz"))
