"""Every unusable input ends in one sentence that names file and remedy, and leaves nothing in nnUNet_raw."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import SimpleITK as sitk

IMAGE, LABEL = "ct_train/ct_train_1001_image.nii.gz", "ct_train/ct_train_1001_label.nii.gz"


def change(path, function):
    """Rewrite an image's voxels."""
    image = sitk.ReadImage(str(path))
    changed = sitk.GetImageFromArray(function(sitk.GetArrayFromImage(image)))
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))


def cut(path, part):
    """Truncate a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def with_value(value):
    def function(array):
        array = array.astype(np.float32)
        array[2, 2, 2] = value
        return array

    return function


def shift(path, mm):
    image = sitk.ReadImage(str(path))
    image.SetOrigin([position + mm for position in image.GetOrigin()])
    sitk.WriteImage(image, str(path))


def turn(path):
    image = sitk.ReadImage(str(path))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))


def stretch(path):
    image = sitk.ReadImage(str(path))
    image.SetSpacing((1.2, 1.5, 2.0))
    sitk.WriteImage(image, str(path))


def unpack(path):
    sitk.WriteImage(sitk.ReadImage(str(path)), str(path)[: -len(".gz")])


def two_channels(path):
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Compose(image, image), str(path))


def garbage(path):
    path.write_bytes(b"<html>404 not found</html>")


def crop(path):
    sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 1:], str(path))


DEFECTS = {
    "truncated": (IMAGE, lambda p: cut(p, 0.5), "is truncated"),
    "truncated in the last bytes": (IMAGE, lambda p: cut(p, 0.99), "is truncated"),
    "truncated label": (LABEL, lambda p: cut(p, 0.9), "is truncated"),
    "no image at all": (IMAGE, garbage, "is not a readable image"),
    "empty file": (IMAGE, lambda p: p.write_bytes(b""), "is not a readable image"),
    "vector image": (IMAGE, two_channels, "one 3D volume per channel"),
    "other size": (LABEL, crop, "has the size 5x6x6"),
    "other origin": (LABEL, lambda p: shift(p, 3.0), "(origin differ)"),
    "other direction": (LABEL, turn, "(direction differ)"),
    "other spacing": (LABEL, stretch, "(spacing differ)"),
    "unknown label": (LABEL, lambda p: change(p, with_value(77)), "unknown label value 77"),
    "NaN in label": (LABEL, lambda p: change(p, with_value(np.nan)), "NaN or infinity"),
    "fractional label": (LABEL, lambda p: change(p, with_value(204.5)), "unknown label value 204.5"),
    "empty label": (LABEL, lambda p: change(p, np.zeros_like), "is empty"),
    "NaN": (IMAGE, lambda p: change(p, with_value(np.nan)), "NaN or infinity"),
    "infinity": (IMAGE, lambda p: change(p, with_value(-np.inf)), "NaN or infinity"),
    "beyond float32": (IMAGE, lambda p: change(p, lambda a: a * 1e300), "32-bit floats"),
    "constant image": (IMAGE, lambda p: change(p, np.zeros_like), "has the value 0 everywhere"),
    "image twice": (IMAGE, unpack, "two files of one case"),
    "image missing": (IMAGE, os.remove, "has no image"),
    "label missing": (LABEL, os.remove, "has no label"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defective_case_is_refused(defect, run_mmwhs, mmwhs, assert_refused):
    file, break_it, fragment = DEFECTS[defect]
    break_it(mmwhs / file)
    assert_refused(run_mmwhs(), fragment, mmwhs / "ct_train" / "ct_train_1001_")


def test_truncated_uncompressed_file(run_mmwhs, mmwhs, assert_refused):
    path = mmwhs / IMAGE
    unpack(path)
    path.unlink()
    cut(path.with_suffix(""), 0.7)
    assert_refused(run_mmwhs(), "is truncated", path.with_suffix(""))


def test_worker_returns_the_sentence_and_the_other_bad_cases(run_mmwhs, mmwhs, assert_refused):
    for number in (1001, 1003):
        garbage(mmwhs / f"ct_train/ct_train_{number}_image.nii.gz")
    outcome = run_mmwhs("-np", 2)
    assert_refused(outcome, IMAGE, "1 more, ct_train_1003")


def test_worker_that_is_killed(run_mmwhs, assert_refused):
    def kill_a_worker():
        # Python's pool waits forever if one worker ends before the other one is started.
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.005)
        time.sleep(0.1)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    outcome = run_mmwhs("-np", 2)
    killer.join()
    assert_refused(outcome, "A worker process was killed", "smaller -np")


def test_no_such_folder(run_mmwhs, mmwhs, assert_refused):
    shutil.rmtree(mmwhs)
    assert_refused(run_mmwhs(), f"There is no folder {mmwhs}")


def test_modality_missing(run_mmwhs, mmwhs, assert_refused):
    shutil.rmtree(mmwhs / "mr_train")
    assert_refused(run_mmwhs(), "has no folder mr_train", "--modalities")


def test_no_matching_file(run_mmwhs, mmwhs, assert_refused):
    for path in (mmwhs / "ct_train").iterdir():
        path.rename(path.with_name("other_" + path.name))
    assert_refused(run_mmwhs(), "No file matches")


def test_pair_test_without_pairs(run_mmwhs, mmwhs, assert_refused):
    (mmwhs / "mr_test/mr_test_2001_image.nii.gz").rename(mmwhs / "mr_test/mr_test_2002_image.nii.gz")
    assert_refused(run_mmwhs("--pair_test"), "--pair_test")


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_taken(variable, run_mmwhs, nnunet_folders, assert_refused):
    other = nnunet_folders / variable / "Dataset501_Other"
    other.mkdir()
    left = [other.name] if variable == "nnUNet_raw" else []
    assert_refused(run_mmwhs("--overwrite"), f"taken by {other}", left=left)


def test_id_taken_meanwhile(run_mmwhs, raw, monkeypatch, assert_refused):
    from rl_nnunet.dataset_conversion import raw_dataset

    monkeypatch.setattr(raw_dataset, "_write_dataset_json", lambda *_: (raw / "Dataset501_Other").mkdir())
    assert_refused(run_mmwhs(), "taken by", "Dataset501_Other", left=["Dataset501_Other"])


def test_id_of_a_run_beside(run_mmwhs, raw, assert_refused):
    from rl_nnunet.files import new_folder

    with new_folder(raw / "Dataset501_Other", "a data set") as beside:
        assert_refused(run_mmwhs(), "Another run is writing", beside.parent, left=[beside.parent.name])


def test_id_of_a_killed_run(run_mmwhs, raw):
    (raw / ".rl_nnunet_unfinished_Dataset501_Other").mkdir()
    assert run_mmwhs().code == 0
    assert os.listdir(raw) == ["Dataset501_MMWHS"]


@pytest.mark.parametrize("arguments", [("-d", 0), ("-d", 1000), ("-n", "a/b"), ("-n", "")])
def test_impossible_id_or_name(arguments, run_mmwhs, assert_refused):
    assert_refused(run_mmwhs(*arguments), "is not possible")


def test_nnunet_raw_unset(run_mmwhs, monkeypatch, assert_refused):
    monkeypatch.delenv("nnUNet_raw")
    assert_refused(run_mmwhs(), "nnUNet_raw is not set")


def test_nnunet_raw_cannot_be_created(run_mmwhs, monkeypatch, mmwhs, assert_refused):
    monkeypatch.setenv("nnUNet_raw", str(mmwhs / IMAGE / "raw"))
    assert_refused(run_mmwhs(), "cannot be written (Not a directory)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_to_write(run_mmwhs, raw, assert_refused):
    raw.chmod(0o500)
    try:
        assert_refused(run_mmwhs(), "cannot be written (Permission denied)")
    finally:
        raw.chmod(0o700)


@pytest.mark.parametrize("limit", [0, 350])
def test_full_disk(limit, mmwhs, raw):
    """A limit on the size of files cuts writes short, as a full disk does; ITK does not report it."""

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = subprocess.run(
        [sys.executable, "-c", "from rl_nnunet.dataset_conversion.convert_mmwhs import main; main()"]
        + ["-i", str(mmwhs), "-d", "501", "-np", "1"],
        preexec_fn=limit_file_size,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.strip().split("\n")[-1].startswith("Error: The data set cannot be written below nnUNet_raw")
    assert "the disk or quota is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(raw.iterdir()) == []


def test_writing_that_fails_late_leaves_nothing(run_mmwhs, monkeypatch, assert_refused):
    from rl_nnunet.dataset_conversion import raw_dataset

    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raw_dataset, "_write_dataset_json", fail)
    assert_refused(run_mmwhs(), "No space left on device")


def test_interrupt_leaves_nothing(run_mmwhs, monkeypatch, raw):
    from rl_nnunet.dataset_conversion import case_conversion

    def interrupt(*_arguments, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(case_conversion, "_convert", interrupt)
    outcome = run_mmwhs()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert list(raw.iterdir()) == []
