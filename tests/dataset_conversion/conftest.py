"""A tiny MM-WHS and a tiny BraTS, and a way to run a converter and look at what came out of it."""

import os
import shutil
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.dataset_conversion import convert_brats, convert_mmwhs, convert_paired, convert_unpaired
from rl_nnunet.phantoms.head.config import HeadPhantomConfig
from rl_nnunet.phantoms.head.dataset import write_head_dataset

MMWHS_VALUES = (205, 420, 500, 550, 600, 820, 850)
# Direction cosines of volumes stored as LPS and, like most MR scans of MM-WHS, in another axis order.
LPS = (1, 0, 0, 0, 1, 0, 0, 0, 1)
ASL = (0, 0, 1, -1, 0, 0, 0, 1, 0)


def write(path, values, *, direction=LPS, origin=(10.0, 20.0, 30.0), spacing=(1.0, 1.5, 2.0)):
    """Write an array, in z, y, x order, as an image."""
    image = sitk.GetImageFromArray(values)
    image.SetDirection(direction)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def scan(seed, shape=(7, 6, 5)):
    """Return an image without structure, int16."""
    return np.random.default_rng(seed).integers(-100, 1000, shape).astype(np.int16)


def label_map(shape=(7, 6, 5)):
    """Return a label map with all structures of MM-WHS: a block of the first, the others one voxel each."""
    labels = np.zeros(shape, np.int16)
    labels[3:5, 3:5, 2:4] = MMWHS_VALUES[0]
    labels.reshape(-1)[: len(MMWHS_VALUES)] = MMWHS_VALUES
    return labels


@pytest.fixture
def write_volumes(tmp_path):
    """Return a function that writes small images (``NAME.nii``) with labels 0 and 1, and returns their folder."""

    def write_all(*names):
        label = np.zeros((5, 6, 7), np.uint8)
        label[1:3, 1:3, 1:3] = 1
        for seed, name in enumerate(names):
            write(tmp_path / f"{name}.nii", scan(seed, label.shape))
            write(tmp_path / f"{name}_label.nii", label)
        return tmp_path

    return write_all


@pytest.fixture
def mmwhs(tmp_path):
    """Three CT and three MR cases with labels, one test scan of each; the MR scans in another axis order."""
    folder = tmp_path / "mmwhs"
    for modality, direction in (("ct", LPS), ("mr", ASL)):
        for number in (1001, 1002, 1003):
            stem = folder / f"{modality}_train" / f"{modality}_train_{number}"
            write(Path(f"{stem}_image.nii.gz"), scan(number), direction=direction)
            write(Path(f"{stem}_label.nii.gz"), label_map(), direction=direction)
        write(folder / f"{modality}_test" / f"{modality}_test_2001_image.nii.gz", scan(2001), direction=direction)
    return folder


@pytest.fixture(scope="session")
def brats_phantom(tmp_path_factory):
    """Return a function that returns phantoms in the layout of a year of BraTS: five training cases, one other."""
    folders = {}

    def phantom(year):
        if year not in folders:
            folders[year] = tmp_path_factory.mktemp(f"brats_{year}") / "data"
            write_head_dataset(folders[year], year, 5, 1, config=HeadPhantomConfig(size=16))
        return folders[year]

    return phantom


@pytest.fixture
def brats(brats_phantom, tmp_path):
    """Return a function that copies the phantoms of a year, and returns their folder."""
    return lambda year: shutil.copytree(brats_phantom(year), tmp_path / f"brats_{year}")


@pytest.fixture
def run_mmwhs(run, mmwhs):
    """Return a function that runs `rl_nnunet_convert_mmwhs` on the tiny MM-WHS."""
    return lambda *arguments: run(
        convert_mmwhs.main, "-i", mmwhs, "-d", 501, *(() if "-np" in arguments else ("-np", 1)), *arguments
    )


@pytest.fixture
def run_unpaired(run):
    """Return a function that runs `rl_nnunet_convert_unpaired`, in one process."""
    return lambda *arguments: run(convert_unpaired.main, "-d", 502, "-n", "Test", "-np", 1, *arguments)


@pytest.fixture
def run_paired(run):
    """Return a function that runs `rl_nnunet_convert_paired`, in one process."""
    return lambda *arguments: run(convert_paired.main, "-d", 504, "-n", "Test", "-np", 1, *arguments)


@pytest.fixture
def run_brats(run):
    """Return a function that runs `rl_nnunet_convert_brats` on a folder, by default in one process."""
    return lambda folder, *arguments: run(
        convert_brats.main, "-i", folder, "-d", 503, *(() if "-np" in arguments else ("-np", 1)), *arguments
    )


@pytest.fixture
def write_case(tmp_path):
    """Return a function that writes an image and its label to the folder `source`, and returns their paths.

    Both are LPS, and their qform and sform agree.
    """

    def write_both(case, ending=".nii"):
        values = np.random.default_rng(sum(map(ord, case))).integers(-1000, 1000, (7, 6, 5)).astype(np.int16)
        paths = [tmp_path / "source" / f"{case}_{name}{ending}" for name in ("image", "label")]
        for path, array in zip(paths, (values, (values > 0).astype(np.int16)), strict=True):
            write(path, array)
        return paths

    return write_both


@pytest.fixture
def source(write_case):
    """Two cases, uncompressed; return their folder."""
    for case in ("a", "b"):
        image, _ = write_case(case)
    return image.parent


@pytest.fixture
def convert(run_unpaired, tmp_path):
    """Return a function that converts the files of the folder `source` as CT."""

    def convert_source(*arguments, ending=".nii"):
        stem = f"{tmp_path}/source/{{case}}"
        branch = f"CT={stem}_image{ending}:{stem}_label{ending}"
        return run_unpaired("--branch", branch, "--labels", "heart=1", *arguments)

    return convert_source


@pytest.fixture
def kill_run(raw):
    """Return a function that kills a converter after its first case, and returns what it leaves in nnUNet_raw."""

    def kill(module, *arguments):
        program = (
            f"from rl_nnunet.dataset_conversion import case_conversion, {module}; import time;"
            "convert = case_conversion.convert_case;"
            "case_conversion.convert_case = lambda *a, **k: (convert(*a, **k), time.sleep(60))[0];"
            f"{module}.main()"
        )
        command = [sys.executable, "-c", program, *map(str, arguments), "-np", "1"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not list(raw.glob("*/new/labelsTr/*.nii.gz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        (leftover,) = raw.iterdir()
        return leftover

    return kill


@pytest.fixture
def raw(nnunet_folders):
    """Return the folder nnUNet_raw."""
    return nnunet_folders / "nnUNet_raw"


@pytest.fixture
def verify(monkeypatch, capfd):
    """Return a function that runs nnU-Net's check of a data set, and returns what it prints."""
    from nnunetv2.experiment_planning import verify_dataset_integrity as verification

    # Threads instead of spawned processes: importing torch in each takes seconds.
    monkeypatch.setattr(verification.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))

    def verify_folder(folder):
        capfd.readouterr()
        verification.verify_dataset_integrity(str(folder), 1)
        out = capfd.readouterr().out
        assert "verify_dataset_integrity Done" in out
        return out

    return verify_folder


@pytest.fixture
def assert_refused(raw, assert_refused_in_one_sentence):
    """Return a function that checks that a command ended in one sentence and left nothing behind."""

    def check(outcome, *fragments, left=()):
        assert_refused_in_one_sentence(outcome, *fragments)
        assert sorted(os.listdir(raw)) == sorted(left)

    return check


def real_folder(name):
    """Return a folder of real volumes, or skip."""
    data = os.environ.get("RL_NNUNET_DATA")
    if data is None:
        pytest.skip(f"no real data: set RL_NNUNET_DATA to a folder that holds {name}")
    folder = Path(data, name)
    assert folder.is_dir(), f"RL_NNUNET_DATA is set, but there is no {folder}"
    return folder


@pytest.fixture
def real_mscmr():
    """Return the folder of MS-CMRSeg 2019."""
    return real_folder("mscmr")


@pytest.fixture
def real_brats():
    """Return a folder that holds a case of BraTS 2023."""
    return real_folder("brats-gli")


@pytest.fixture
def real_heart():
    """Return a folder that holds a CT of a heart."""
    return real_folder("ct-heart")


@pytest.fixture
def real_myops():
    """Return the folder of MyoPS 2020."""
    return real_folder("myops")
