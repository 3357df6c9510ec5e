import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from rl_nnunet import files
from rl_nnunet.errors import InputError
from rl_nnunet.phantoms.geometry import rotate_array
from rl_nnunet.phantoms.heart import write
from rl_nnunet.phantoms.heart.cases import make_heart_case
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.dataset import write_heart_dataset
from rl_nnunet.phantoms.heart.tissues import RAW_LABELS, raw_labels
from rl_nnunet.phantoms.heart.write import plan_heart_jobs
from rl_nnunet.phantoms.make_phantom import main

SMALL = HeartPhantomConfig(size=24)
TINY = ["--cases", "2", "--test_cases", "0", "--size", "24", "-np", "1"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "heart"
    main(["-o", str(folder), *TINY, "--test_cases", "1"])
    return folder


def read(path):
    return sitk.ReadImage(str(path))


def contents(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("[!.]*") if p.is_file()}


def pixels(folder):
    return {
        name: hashlib.sha256(sitk.GetArrayFromImage(read(folder / name)).tobytes()).hexdigest()
        for name in contents(folder)
        if name.endswith(".nii.gz")
    }


def test_layout_is_that_of_mmwhs(dataset):
    expected = {
        f"{m}_train/{m}_train_{number}_{kind}.nii.gz"
        for m in ("ct", "mr")
        for number in (1001, 1002)
        for kind in ("image", "label")
    }
    assert contents(dataset) == expected | {f"{m}_test/{m}_test_2001_image.nii.gz" for m in ("ct", "mr")}


def test_files_hold_what_mmwhs_does(dataset):
    for path in dataset.glob("*_train/*_label.nii.gz"):
        labels, image = read(path), read(str(path).replace("_label", "_image"))
        assert labels.GetPixelID() == image.GetPixelID() == sitk.sitkInt16
        assert set(np.unique(sitk.GetArrayFromImage(labels))) == {0, *RAW_LABELS.values()}
        for of in (sitk.Image.GetSize, sitk.Image.GetSpacing, sitk.Image.GetDirection, sitk.Image.GetOrigin):
            assert of(labels) == of(image)


def test_folder_is_readable_by_whom_the_umask_says(dataset):
    umask = os.umask(0)
    os.umask(umask)
    assert dataset.stat().st_mode & 0o777 == 0o777 & ~umask


def test_same_seed_same_images_whatever_the_processes(dataset, tmp_path):
    write_heart_dataset(tmp_path / "two", 2, 1, config=SMALL, processes=2)
    assert pixels(tmp_path / "two") == pixels(dataset)


def test_another_seed_gives_other_images(dataset, tmp_path):
    main(["heart", "-o", str(tmp_path / "other"), *TINY, "--seed", "1"])
    other = pixels(tmp_path / "other")
    assert all(pixels(dataset)[name] != digest for name, digest in other.items())


def test_half_of_the_mr_and_a_tenth_of_the_ct_are_reoriented():
    jobs = plan_heart_jobs(0, 20, 0, HeartPhantomConfig())
    assert sum(job.reoriented for job in jobs if job.modality == "ct") == 2
    assert sum(job.reoriented for job in jobs if job.modality == "mr") == 10


def test_reorienting_restores_the_anatomy(tmp_path):
    config = HeartPhantomConfig(size=24, ct_reoriented=1, mr_reoriented=1)
    written = write_heart_dataset(tmp_path / "turned", 3, config=config)
    for case in written:
        stored = read(tmp_path / "turned" / case.job.folder / f"{case.job.name}_label.nii.gz")
        assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(stored.GetDirection()) != "LPS"
        restored = sitk.DICOMOrient(stored, "LPS")
        original = make_heart_case(0, case.job.modality, case.job.number, config=config)
        assert np.array_equal(sitk.GetArrayFromImage(restored), raw_labels(original.labels))
        assert np.allclose(restored.GetOrigin(), original.grid.origin[::-1], atol=1e-3)
        # The header alone says where things are, too.
        assert _centroid(stored, "RA")[0] < _centroid(stored, "LV")[0]
        assert _centroid(stored, "LV")[2] < _centroid(stored, "PA")[2]


def test_rotations_file_undoes_the_rotation(tmp_path):
    folder = tmp_path / "rotated"
    main(["-o", str(folder), *TINY, "--paired", "--rotate_mr", "--seed", "5"])
    rotations = json.loads((folder / "rotations.json").read_text())["rotations"]
    assert sorted(rotations) == ["mr_train_1001", "mr_train_1002"]
    for name, matrix in rotations.items():
        image = read(folder / "mr_train" / f"{name}_image.nii.gz")
        assert np.allclose(image.GetDirection(), np.eye(3).ravel())
        plain = make_heart_case(5, "mr", int(name[-4:]), paired=True, config=SMALL)
        restored = rotate_array(sitk.GetArrayFromImage(image), np.array(matrix).T)
        assert np.array_equal(restored, plain.image)


def test_test_labels_lie_beside_their_images(tmp_path):
    folder = tmp_path / "tested"
    main(["-o", str(folder), "--cases", "1", "--test_cases", "1", "--test_labels", "--size", "24", "-np", "1"])
    image = read(folder / "mr_test/mr_test_2001_image.nii.gz")
    assert read(folder / "mr_test/mr_test_2001_label.nii.gz").GetSize() == image.GetSize()
    assert (folder / "ct_test/ct_test_2001_label.nii.gz").is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_failure_leaves_nothing_behind(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(write, "make_heart_case", fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write_heart_dataset(tmp_path / "new" / "heart", 1)
    assert list(tmp_path.iterdir()) == []


def test_failure_while_overwriting_keeps_what_was_there(dataset, tmp_path, monkeypatch):
    write_heart_dataset(tmp_path / "heart", 1, config=SMALL)
    before = pixels(tmp_path / "heart")
    original_rename = Path.rename

    def rename(path, target):
        if path.name == "new":
            raise OSError(16, "Device or resource busy")
        return original_rename(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with pytest.raises(InputError, match="busy"):
        write_heart_dataset(tmp_path / "heart", 1, 0, 9, SMALL, overwrite=True)
    assert pixels(tmp_path / "heart") == before
    assert len(list(tmp_path.iterdir())) == 1


def test_paired_test_pairs_the_test_cases_only():
    jobs = plan_heart_jobs(0, 1, 1, SMALL, paired_test=True)
    assert {job.name: job.paired for job in jobs} == {
        "ct_train_1001": False,
        "mr_train_1001": False,
        "ct_test_2001": True,
        "mr_test_2001": True,
    }


def _centroid(labels, structure):
    mask = sitk.GetArrayFromImage(labels) == RAW_LABELS[structure]
    return labels.TransformContinuousIndexToPhysicalPoint(ndimage.center_of_mass(mask)[::-1])
