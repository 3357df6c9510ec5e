"""What cannot be segmented is refused in one sentence; other cases are segmented, and nothing is left half-written."""

import gzip
import json
import os
import shutil
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_models import STOCK, network_of, write_model


def only_files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


BESIDE = {"dataset.json", "plans.json"}


def write_no_image(patient, **_):
    (patient.images / "p1_0001.nii.gz").write_bytes(b"no image")


def truncate(patient, **_):
    file = patient.images / "p1_0001.nii"
    sitk.WriteImage(patient.mr, file)
    content = file.read_bytes()[:-500]
    file.unlink()
    # Called compressed, but is not: ITK reads it all the same, and makes up what is not there.
    (patient.images / "p1_0001.nii.gz").write_bytes(content)


def add_channel(patient, **_):
    shutil.copy(patient.images / "p1_0000.nii.gz", patient.images / "p1_0007.nii.gz")


def add_series(patient, write_dicom):
    write_dicom(patient.images / "p1_0001", np.zeros((3, 4, 4)))


def uneven_series(patient, write_dicom):
    (patient.images / "p1_0001.nii.gz").unlink()
    places = [(0.0, 0.0, place) for place in (0, 1, 3)]
    write_dicom(patient.images / "p1_0001", np.ones((3, 4, 4)), positions=places)


def rename(patient, **_):
    (patient.images / "p1_0000.nii.gz").unlink()
    (patient.images / "p1_0001.nii.gz").rename(patient.images / "p1.nii.gz")


def move_away(patient, **_):
    patient.mr.SetOrigin((900.0, 0.0, 0.0))
    sitk.WriteImage(patient.mr, patient.images / "p1_0001.nii.gz")


def claim(patient, **_):
    """Promise 16 GB of voxels."""
    edit_header(patient, 42, "<3h", 2000, 2000, 2000)


def stretch(patient, **_):
    edit_header(patient, 80, "<f", 1e9, sform=False)


def break_sform(patient, **_):
    edit_header(patient, 280, "<f", float("nan"))


def edit_header(patient, position, kind, *values, sform=True):
    file = patient.images / "p1_0001.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into(kind, content, position, *values)
    if not sform:
        struct.pack_into("<h", content, 254, 0)
    file.write_bytes(gzip.compress(bytes(content)))


def put_a_folder(patient, **_):
    (patient.images / "p1_0001.nii.gz").unlink()
    (patient.images / "p1_0001.nii.gz").mkdir()


def put_a_pipe(patient, **_):
    (patient.images / "p1_0001.nii.gz").unlink()
    os.mkfifo(patient.images / "p1_0001.nii.gz")


@pytest.mark.parametrize(
    ("damage", "flags", "fragment"),
    [
        (write_no_image, (), "p1_0001.nii.gz is not a readable image"),
        (truncate, (), "p1_0001.nii.gz"),
        (add_channel, (), "p1_0007.nii.gz is a channel that the model does not have (0000 CT, 0001 MR)"),
        (add_series, (), "are one channel; remove one"),
        (uneven_series, (), "uneven slices"),
        (claim, (), "p1_0001.nii.gz is truncated: its header promises 2000x2000x2000 voxels"),
        (stretch, (), "p1_0001.nii.gz has voxels of 1e+09x"),
        (break_sform, (), "p1_0001.nii.gz has an sform of numbers that are not finite"),
        (put_a_folder, (), "p1_0001.nii.gz holds no DICOM series"),
        (put_a_pipe, (), "p1_0001.nii.gz is not a file"),
        (rename, (), "p1.nii.gz has no channel in its name"),
        (move_away, ("--pairing", "physical"), "do not overlap by the coordinates in their headers"),
    ],
)
def test_bad_case_is_named_and_others_are_segmented(
    patient, predict, write_dicom, make_scan, assert_refused_in_one_sentence, damage, flags, fragment
):
    damage(patient, write_dicom=write_dicom)
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    outcome = predict(patient.model, patient.images, patient.output, *flags)
    assert_refused_in_one_sentence(outcome, fragment)
    found = only_files(patient.output)
    assert {name for name in found if name.endswith(".nii.gz")} in ({"p2.nii.gz"}, {"CT/p2.nii.gz"})
    assert not [name for name in found if "unfinished" in name]


def test_several_bad_cases_are_named_in_one_sentence(patient, predict, assert_refused_in_one_sentence):
    for name in ("p2", "p3"):
        (patient.images / f"{name}_0000.nii.gz").write_bytes(b"no image")
    outcome = predict(patient.model, patient.images, patient.output)
    assert_refused_in_one_sentence(outcome, "p2_0000.nii.gz", "1 more, p3")
    assert (patient.output / "p1.nii.gz").is_file()


def test_nan_is_refused(patient, predict, assert_refused_in_one_sentence):
    """In NIfTI files, ITK reads 0 in its place."""
    values = sitk.GetArrayFromImage(patient.mr).astype(np.float32)
    values[2, 3, 4] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), patient.root / "mr.nrrd")
    outcome = predict(patient.model, patient.root / "mr.nrrd", patient.output, "--modality", "MR")
    assert_refused_in_one_sentence(outcome, "mr.nrrd contains NaN")


def test_branch_on_two_grids_is_refused(patient, predict, make_scan, assert_refused_in_one_sentence):
    content = json.loads((patient.model / "plans.json").read_text())
    description = json.loads((patient.model / "dataset.json").read_text())
    description["rl_nnunet"] = {"branches": {"heart": ["CT", "MR"]}, "pairing": "paired"}
    arguments = content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments |= {"branches": [[0, 1]], "branch_names": ["heart"]}
    (patient.model / "plans.json").write_text(json.dumps(content))
    (patient.model / "dataset.json").write_text(json.dumps(description))
    checkpoint = torch.load(patient.model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    checkpoint["network_weights"] = network_of(content).state_dict()
    torch.save(checkpoint, patient.model / "fold_0" / "checkpoint_final.pth")
    sitk.WriteImage(make_scan(3, size=(9, 9, 9)), patient.images / "p1_0001.nii.gz")
    outcome = predict(patient.model, patient.images, patient.output)
    assert_refused_in_one_sentence(outcome, "belong to the branch heart, but are on different grids")


@pytest.mark.parametrize(
    ("record", "fragment"),
    [("LSP", '"orientation" must be one of LPS, RAS, keep'), ("LPS", "does not say how its axes lie in the patient")],
)
def test_axis_order_that_is_not_known(patient, predict, assert_refused_in_one_sentence, record, fragment):
    model = write_model(patient.root / "other", orientation=record)
    file = patient.images / "p1_0000.nii.gz"
    sitk.WriteImage(patient.ct, patient.root / "plain.nii")
    content = bytearray((patient.root / "plain.nii").read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    file.write_bytes(gzip.compress(bytes(content)))
    assert_refused_in_one_sentence(predict(model, patient.images, patient.output), fragment)


# ---- the command line, the model, the output -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "fragment"),
    [
        (("-i", "nowhere"), "There is no folder"),
        (("-i", "empty"), "holds no case"),
        (("-i", "images/p1_0000.nii.gz"), "add --modality"),
        (("-i", "nowhere.nii.gz", "--modality", "MR"), "correct -i"),
        (("-i", "images/p1_0000.nii.gz", "--modality", "PET"), "the model knows CT, MR only"),
        (("-m", "empty"), "is no folder of a trained model"),
        (("-f", "3"), "There is no checkpoint"),
        (("-prev_stage_predictions", "empty"), "is no second stage of a cascade"),
        (("-o", "images/p1_0000.nii.gz/out"), "cannot be written"),
    ],
)
def test_what_is_asked_for_is_not_there(patient, predict, assert_refused_in_one_sentence, monkeypatch, flags, fragment):
    (patient.root / "empty").mkdir()
    monkeypatch.chdir(patient.root)
    outcome = predict(patient.model, patient.images, patient.output, *flags)
    assert_refused_in_one_sentence(outcome, fragment)
    assert not only_files(patient.output)


def test_model_of_another_package_is_refused(patient, predict, assert_refused_in_one_sentence):
    checkpoint = patient.model / "fold_0" / "checkpoint_final.pth"
    torch.save({"state_dict": {}}, checkpoint)
    assert_refused_in_one_sentence(predict(patient.model, patient.images, patient.output), "cannot be loaded")


def test_part_that_does_not_exist_is_refused(patient, predict):
    outcome = predict(patient.model, patient.images, patient.output, "-num_parts", 2, "-part_id", 2)
    assert outcome.code == 2
    assert "-part_id must be below -num_parts" in outcome.err


def test_parts_make_up_the_whole(patient, predict, make_scan):
    for name in ("p2", "p3"):
        sitk.WriteImage(make_scan(3), patient.images / f"{name}_0000.nii.gz")
    for part, names in ((0, {"p1", "p3"}), (1, {"p2"})):
        output = patient.root / f"part_{part}"
        assert predict(patient.model, patient.images, output, "-num_parts", 2, "-part_id", part).code == 0
        assert only_files(output) == {*BESIDE, *(f"{name}.nii.gz" for name in names)}


def test_segmentations_are_not_overwritten_unasked(patient, predict, assert_refused_in_one_sentence):
    patient.output.mkdir()
    (patient.output / "p1.nii.gz").write_text("mine")
    outcome = predict(patient.model, patient.images, patient.output)
    assert_refused_in_one_sentence(outcome, "p1.nii.gz exists already", "--overwrite", "--continue_prediction")
    assert (patient.output / "p1.nii.gz").read_text() == "mine"
    assert predict(patient.model, patient.images, patient.output, "--overwrite").code == 0
    assert sitk.ReadImage(patient.output / "p1.nii.gz").GetSize() == patient.ct.GetSize()


def test_killed_run_is_continued(patient, predict, make_scan, monkeypatch):
    for name in ("p2", "p3"):
        sitk.WriteImage(make_scan(3), patient.images / f"{name}_0000.nii.gz")
    assert predict(patient.model, patient.images, patient.root / "whole").code == 0
    patient.output.mkdir()
    shutil.copy(patient.root / "whole" / "p1.nii.gz", patient.output)
    (patient.output / ".unfinished_p2.nii.gz").write_bytes(b"half")
    before = os.stat(patient.output / "p1.nii.gz").st_mtime_ns
    assert predict(patient.model, patient.images, patient.output, "--continue_prediction").code == 0
    assert os.stat(patient.output / "p1.nii.gz").st_mtime_ns == before
    assert only_files(patient.output) == only_files(patient.root / "whole")
    for name in ("p1", "p2", "p3"):
        file = f"{name}.nii.gz"
        assert (patient.output / file).read_bytes() == (patient.root / "whole" / file).read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk")
def test_full_disk_leaves_nothing_behind(patient, predict, assert_refused_in_one_sentence):
    patient.output.mkdir()
    (patient.output / ".unfinished_p1.nii.gz").symlink_to("/dev/full")
    outcome = predict(patient.model, patient.images, patient.output)
    assert_refused_in_one_sentence(outcome, "p1.nii.gz cannot be written")
    assert only_files(patient.output) == BESIDE


def test_second_stage_without_the_first_is_refused(patient, predict, assert_refused_in_one_sentence):
    model = write_model(patient.root / "other", STOCK)
    content = json.loads((model / "plans.json").read_text())
    content["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    (model / "plans.json").write_text(json.dumps(content))
    outcome = predict(model, patient.images, patient.output)
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ")
