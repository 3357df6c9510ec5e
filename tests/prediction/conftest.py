"""Scans of one patient on two grids, and models of a few weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter
from tiny_models import write_model


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """The command takes all cores, as nnU-Net does: for networks of this size, threads cost more than they do."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_scan():
    """Return a function that makes a scan of smooth noise."""

    def make(seed=0, size=(14, 13, 9), spacing=(1.5, 1.4, 3.0), origin=(-10.0, 5.0, 20.0), offset=100):
        generator = np.random.default_rng(seed)
        values = gaussian_filter(generator.normal(size=size[::-1]), 1.0) * 300 + offset
        image = sitk.GetImageFromArray(np.round(values).astype(np.int16))
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        return image

    return make


@pytest.fixture
def patient(tmp_path, make_scan, monkeypatch):
    """A model, and a folder with the CT and the MR of one patient on one grid, and an output that is not there yet."""
    monkeypatch.setenv("nnUNet_extTrainer", "")  # the command adds ours
    images = tmp_path / "images"
    images.mkdir()
    ct, mr = make_scan(0), make_scan(1, offset=400)
    for channel, scan in enumerate((ct, mr)):
        sitk.WriteImage(scan, images / f"p1_{channel:04d}.nii.gz")
    return SimpleNamespace(
        model=write_model(tmp_path / "model"), images=images, ct=ct, mr=mr, output=tmp_path / "out", root=tmp_path
    )


@pytest.fixture
def predict(run):
    """Return a function that runs the command on a model, a folder and an output, in this process."""
    from rl_nnunet.prediction.predict import main

    def run_command(model, images, output, *flags):
        words = ("-i", images, "-o", output, "-m", model, "-f", 0, "-device", "cpu", "--disable_progress_bar")
        return run(main, *words, "-npp", 0, "-nps", 0, "--disable_tta", *flags)

    return run_command


@pytest.fixture
def values():
    """Return a function that reads the voxels of a file."""
    return lambda file: sitk.GetArrayFromImage(sitk.ReadImage(file))
