"""What rl_nnunet_convert_mmwhs writes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.files import MARKER

NAMES = {
    "background": 0,
    "myocardium": 1,
    "left_atrium": 2,
    "left_ventricle": 3,
    "right_atrium": 4,
    "right_ventricle": 5,
    "ascending_aorta": 6,
    "pulmonary_artery": 7,
}
RAW_VALUES = {0: 0, 205: 1, 420: 2, 500: 3, 550: 4, 600: 5, 820: 6, 850: 7}


def read(path):
    return sitk.ReadImage(str(path))


def array(path):
    return sitk.GetArrayFromImage(read(path))


def orientation(path):
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(read(path).GetDirection())


@pytest.fixture
def converted(run_mmwhs, raw):
    """Return a function that converts the tiny MM-WHS and returns the folder and the outcome."""

    def convert(*arguments):
        outcome = run_mmwhs(*arguments)
        assert outcome.code == 0, outcome.err
        return raw / "Dataset501_MMWHS", outcome

    return convert


def test_files_and_dataset_json(converted, raw):
    folder, _ = converted()
    assert os.listdir(raw) == ["Dataset501_MMWHS"]
    expected = [MARKER, "dataset.json", "imagesTr", "imagesTs", "labelsTr", "splits_final.json"]
    assert sorted(os.listdir(folder)) == expected
    training = [f"{modality}_train_{number}" for modality in ("ct", "mr") for number in (1001, 1002, 1003)]
    channels = ["_0000.nii.gz", "_0001.nii.gz"]
    assert sorted(os.listdir(folder / "imagesTr")) == [case + channel for case in training for channel in channels]
    assert sorted(os.listdir(folder / "labelsTr")) == [f"{case}.nii.gz" for case in training]
    tests = ["ct_test_2001", "mr_test_2001"]
    assert sorted(os.listdir(folder / "imagesTs")) == [case + channel for case in tests for channel in channels]
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert dataset_json["labels"] == NAMES
    assert dataset_json["channel_names"] == {"0": "CT", "1": "MRI"}
    assert dataset_json["numTraining"] == 6
    assert dataset_json["file_ending"] == ".nii.gz"
    layout = layout_from_dataset_json(dataset_json)
    assert (layout.names, layout.channels, layout.pairing) == (("CT", "MRI"), ((0,), (1,)), "unpaired")


def test_images_are_kept_and_absent_channels_blank(converted, mmwhs):
    folder, _ = converted("--orientation", "keep")
    for modality, present in (("ct", 0), ("mr", 1)):
        source = read(mmwhs / f"{modality}_train/{modality}_train_1001_image.nii.gz")
        image = read(folder / f"imagesTr/{modality}_train_1001_000{present}.nii.gz")
        blank = read(folder / f"imagesTr/{modality}_train_1001_000{1 - present}.nii.gz")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(source))
        assert image.GetPixelID() == source.GetPixelID() == sitk.sitkInt16
        assert blank.GetPixelID() == sitk.sitkUInt8
        assert not sitk.GetArrayFromImage(blank).any()
        label = read(folder / f"labelsTr/{modality}_train_1001.nii.gz")
        for other in (image, blank, label):
            assert other.IsSameImageGeometryAs(source, 1e-6, 1e-6)


def test_labels_are_mapped_voxel_by_voxel(converted, mmwhs):
    folder, _ = converted("--orientation", "keep")
    source = array(mmwhs / "mr_train/mr_train_1002_label.nii.gz")
    label = array(folder / "labelsTr/mr_train_1002.nii.gz")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, np.vectorize(RAW_VALUES.get)(source))


@pytest.mark.parametrize("wanted", ["LPS", "RAS"])
def test_every_voxel_keeps_its_place_in_the_body(wanted, converted, mmwhs):
    folder, _ = converted("--orientation", wanted)
    source = read(mmwhs / "mr_train/mr_train_1001_image.nii.gz")
    source_label = read(mmwhs / "mr_train/mr_train_1001_label.nii.gz")
    image, label = (
        read(folder / path) for path in ("imagesTr/mr_train_1001_0001.nii.gz", "labelsTr/mr_train_1001.nii.gz")
    )
    assert orientation(folder / "imagesTr/mr_train_1001_0001.nii.gz") == wanted
    assert orientation(folder / "imagesTr/mr_train_1001_0000.nii.gz") == wanted
    assert orientation(folder / "labelsTr/mr_train_1001.nii.gz") == wanted
    for index in np.ndindex(source.GetSize()):
        index = tuple(map(int, index))
        there = image.TransformPhysicalPointToIndex(source.TransformIndexToPhysicalPoint(index))
        assert image[there] == source[index]
        assert label[there] == RAW_VALUES[source_label[index]]


def test_one_modality_gives_one_channel(converted):
    folder, _ = converted("--modalities", "mr")
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "MRI"}
    assert dataset_json["rl_nnunet"]["branches"] == {"MRI": ["MRI"]}
    assert all(name.endswith("_0000.nii.gz") for name in os.listdir(folder / "imagesTr"))


def test_modalities_may_be_repeated(converted):
    folder, _ = converted("--modalities", "mr", "--modalities", "ct")
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {"0": "MRI", "1": "CT"}


@pytest.mark.parametrize(("pixel_type", "value"), [(sitk.sitkInt16, 421), (sitk.sitkFloat32, 421.0065)])
def test_stray_label_is_left_atrium(pixel_type, value, converted, mmwhs):
    path = mmwhs / "ct_train/ct_train_1001_label.nii.gz"
    image = sitk.Cast(read(path), pixel_type)
    image[4, 5, 6] = value
    sitk.WriteImage(image, str(path))
    folder, outcome = converted()
    assert array(folder / "labelsTr/ct_train_1001.nii.gz")[6, 5, 4] == NAMES["left_atrium"]
    assert "Notice: stray label value 421 taken as left_atrium: ct_train_1001." in outcome.out


def test_rounded_header_is_mended(converted, mmwhs):
    path = mmwhs / "ct_train/ct_train_1001_label.nii.gz"
    image = read(path)
    image.SetOrigin([position + 0.01 for position in image.GetOrigin()])
    sitk.WriteImage(image, str(path))
    folder, outcome = converted()
    label, image = (read(folder / p) for p in ("labelsTr/ct_train_1001.nii.gz", "imagesTr/ct_train_1001_0000.nii.gz"))
    assert label.GetOrigin() == image.GetOrigin() == (10.0, 20.0, 30.0)
    assert "Notice: geometry of the label taken from its image: ct_train_1001." in outcome.out


def test_label_stored_as_float(converted, mmwhs):
    path = mmwhs / "ct_train/ct_train_1001_label.nii.gz"
    sitk.WriteImage(sitk.Cast(read(path), sitk.sitkFloat64), str(path))
    folder, _ = converted()
    np.testing.assert_array_equal(
        array(folder / "labelsTr/ct_train_1001.nii.gz"), array(folder / "labelsTr/ct_train_1002.nii.gz")
    )


def test_double_precision_image_becomes_float32(converted, mmwhs):
    path = mmwhs / "ct_train/ct_train_1001_image.nii.gz"
    sitk.WriteImage(sitk.Cast(read(path), sitk.sitkFloat64), str(path))
    folder, _ = converted()
    assert read(folder / "imagesTr/ct_train_1001_0000.nii.gz").GetPixelID() == sitk.sitkFloat32


def test_unpacked_files_are_found(converted, mmwhs):
    path = mmwhs / "ct_train/ct_train_1001_image.nii.gz"
    sitk.WriteImage(read(path), str(path.with_suffix("")))
    path.unlink()
    folder, _ = converted()
    assert (folder / "imagesTr/ct_train_1001_0000.nii.gz").is_file()


def test_labels_of_test_scans_are_kept(converted, mmwhs):
    label = read(mmwhs / "ct_train/ct_train_1001_label.nii.gz")
    sitk.WriteImage(label, str(mmwhs / "ct_test/ct_test_2001_label.nii.gz"))
    folder, _ = converted("--pair_test")
    assert sorted(os.listdir(folder / "labelsTs")) == ["ct_test_2001.nii.gz", "pair_2001.nii.gz"]


def test_pair_lies_on_the_first_grid(converted, mmwhs):
    # The MR scan is the CT scan on a grid that is shifted by one voxel, so that its resampled values are known.
    image = read(mmwhs / "ct_test/ct_test_2001_image.nii.gz")
    sitk.WriteImage(image[1:, :, :], str(mmwhs / "mr_test/mr_test_2001_image.nii.gz"))
    folder, _ = converted("--pair_test")
    first, second = (read(folder / f"imagesTs/pair_2001_000{channel}.nii.gz") for channel in (0, 1))
    assert first.IsSameImageGeometryAs(second, 1e-6, 1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(image))
    resampled = sitk.GetArrayFromImage(second)
    np.testing.assert_array_equal(resampled[:, :, 1:], sitk.GetArrayFromImage(image)[:, :, 1:])
    assert not resampled[:, :, 0].any()
    assert (folder / "imagesTs/mr_test_2001_0001.nii.gz").is_file()


def test_pair_without_overlap_is_left_out(converted, mmwhs):
    path = mmwhs / "mr_test/mr_test_2001_image.nii.gz"
    image = read(path)
    image.SetOrigin((5000, 0, 0))
    sitk.WriteImage(image, str(path))
    folder, outcome = converted("--pair_test")
    assert not list((folder / "imagesTs").glob("pair_*"))
    assert "do not overlap in space: pair_2001." in outcome.out


def test_splits_are_stratified_disjoint_and_repeatable(converted):
    folder, outcome = converted()
    splits = json.loads((folder / "splits_final.json").read_text())
    assert "only 3 folds instead of 5" in outcome.out
    assert len(splits) == 3
    everything = {path.name[: -len(".nii.gz")] for path in (folder / "labelsTr").iterdir()}
    for split in splits:
        assert sorted(name[:2] for name in split["val"]) == ["ct", "mr"]
        assert set(split["train"]) | set(split["val"]) == everything
        assert not set(split["train"]) & set(split["val"])
    assert {name for split in splits for name in split["val"]} == everything
    converted("--overwrite")
    assert json.loads((folder / "splits_final.json").read_text()) == splits


def test_processes_do_not_change_the_result(converted):
    folder, _ = converted("-np", 1)
    before = {path.name: array(path) for path in folder.glob("*/*.nii.gz")}
    converted("--overwrite", "-np", 2)
    after = {path.name: array(path) for path in folder.glob("*/*.nii.gz")}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_summary(converted):
    _, outcome = converted()
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["CT", "3", "1", "5x6x7", "1x1.5x2", "LPS", "(4)"] in lines
    assert ["MRI", "3", "1", "7x5x6", "2x1x1.5", "ASL", "(4)"] in lines
    # 8 voxels of the block and 1 in the corner, 3 mm³ each.
    assert ["myocardium", "6", "of", "6", "0.027", "0.027", "0.027"] in lines


def test_existing_data_set_is_kept_without_overwrite(converted, run_mmwhs, assert_refused):
    folder, _ = converted()
    before = (folder / "dataset.json").stat().st_mtime_ns
    assert_refused(run_mmwhs(), f"{folder} exists already", "--overwrite", left=[folder.name])
    assert (folder / "dataset.json").stat().st_mtime_ns == before


def test_failed_overwrite_keeps_the_old_data_set(converted, run_mmwhs, mmwhs, assert_refused):
    folder, _ = converted()
    (mmwhs / "mr_train/mr_train_1003_image.nii.gz").write_bytes(b"")
    assert_refused(run_mmwhs("--overwrite"), "mr_train_1003", left=[folder.name])
    assert len(list((folder / "labelsTr").iterdir())) == 6


def test_overwrite_replaces_everything(converted, raw, nnunet_folders):
    folder, _ = converted()
    (nnunet_folders / "nnUNet_preprocessed" / folder.name).mkdir()
    _, outcome = converted("--overwrite", "--modalities", "ct")
    assert sorted(os.listdir(folder / "imagesTr")) == [f"ct_train_{n}_0000.nii.gz" for n in (1001, 1002, 1003)]
    assert os.listdir(raw) == [folder.name]
    assert "stems from an earlier data set" in outcome.out


def test_run_after_a_killed_one(converted, kill_run, mmwhs, raw):
    """SIGKILL leaves a hidden folder; nnU-Net does not see it, and the next run removes it."""
    leftover = kill_run("convert_mmwhs", "-i", mmwhs, "-d", "501")
    assert not leftover.name.startswith("Dataset")
    folder, _ = converted()
    assert os.listdir(raw) == [folder.name]


def test_work_of_a_run_beside_is_not_touched(run_mmwhs, raw, assert_refused):
    from rl_nnunet.files import new_folder

    with new_folder(raw / "Dataset502_Other", "a") as beside, new_folder(raw / "Dataset501_MMWHS", "b") as same:
        assert_refused(run_mmwhs(), "Another run is writing", left=[beside.parent.name, same.parent.name])
        assert beside.is_dir()


def test_workers_end_with_a_killed_parent(tmp_path):
    program = (
        "import multiprocessing, os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from rl_nnunet.parallel import prepare_worker\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), initializer=prepare_worker)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = Path("/proc") / process.stdout.readline().strip()
    assert worker.exists()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while worker.exists() and "Z" not in (worker / "stat").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not worker.exists() or "Z" in (worker / "stat").read_text().split()


@pytest.mark.parametrize("module", ["convert_mmwhs", "convert_unpaired", "convert_brats", "convert_brats_predictions"])
def test_help_answers_at_once(module):
    program = f"from rl_nnunet.dataset_conversion.{module} import main; main()"
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)
    assert time.perf_counter() - start < 1
    assert result.returncode == 0
    assert "--overwrite" in result.stdout


def test_nnunet_accepts_the_data_set(converted, verify):
    folder, _ = converted("--pair_test")
    assert "Warning" not in verify(folder)


@pytest.mark.slow
def test_nnunet_plans_the_data_set(converted, nnunet_folders):
    folder, _ = converted()
    command = ["nnUNetv2_plan_and_preprocess", "-d", "501", "--verify_dataset_integrity", "--no_pp", "-npfp", "1"]
    executable = Path(sys.executable).with_name(command[0])
    result = subprocess.run([executable, *command[1:]], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    copied = nnunet_folders / "nnUNet_preprocessed" / folder.name
    for name in ("splits_final.json", "dataset.json"):
        assert json.loads((copied / name).read_text()) == json.loads((folder / name).read_text())
