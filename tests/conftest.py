"""What all tests share: an environment without the user's nnU-Net folders, and tiny data sets in nnU-Net's format."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

# No test may read or write the data of whoever runs it, and nnUNet_n_proc_DA=0 would crash the planner.
for _name in [name for name in os.environ if name.startswith("nnUNet_")]:
    del os.environ[_name]
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch):
    """Set nnU-Net's three folders to new ones; return their parent."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def write_dataset(nnunet_folders):
    """Return a function that writes a data set of given images, and returns its folder."""

    def write(name, cases, branches, pairing="unpaired", channel_names=None):
        """Write `cases`: per case, its channels (shape c, z, y, x) and its segmentation (shape z, y, x)."""
        folder = nnunet_folders / "nnUNet_raw" / name
        for sub_folder in ("imagesTr", "labelsTr"):
            (folder / sub_folder).mkdir(parents=True)
        for case, (channels, segmentation) in cases.items():
            for index, channel in enumerate(np.asarray(channels, np.float32)):
                sitk.WriteImage(sitk.GetImageFromArray(channel), folder / "imagesTr" / f"{case}_{index:04d}.nii.gz")
            label = sitk.GetImageFromArray(segmentation.astype(np.uint8))
            sitk.WriteImage(label, folder / "labelsTr" / f"{case}.nii.gz")
        channel_names = channel_names or [channel for channels in branches.values() for channel in channels]
        dataset_json = {
            "channel_names": {str(index): channel for index, channel in enumerate(channel_names)},
            "labels": {"background": 0, "heart": 1},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
            "rl_nnunet": {"branches": branches, "pairing": pairing},
        }
        (folder / "dataset.json").write_text(json.dumps(dataset_json))
        return folder

    return write


@pytest.fixture
def unpaired_cases():
    """Four cases of 12³ voxels: two CT (no MRI), two MRI (no CT), each with a cube of foreground."""
    rng = np.random.default_rng(0)
    cases = {}
    for index, name in enumerate(("ct_1", "ct_2", "mri_1", "mri_2")):
        channels = np.zeros((2, 12, 12, 12), np.float32)
        is_mri = name.startswith("mri")
        channels[int(is_mri)] = rng.normal(400 if is_mri else 100, 50, (12, 12, 12))
        segmentation = np.zeros((12, 12, 12), np.uint8)
        segmentation[2:10, 2:10, 2 : 8 + index % 2] = 1
        cases[name] = channels, segmentation
    return cases


@pytest.fixture
def fingerprint_in_threads(monkeypatch):
    """Let threads do the work of the fingerprint extractor's processes: starting those takes seconds."""
    import nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor as stock

    import rl_nnunet.planners.fingerprint_extractor as ours

    context = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    monkeypatch.setattr(stock, "multiprocessing", context)
    monkeypatch.setattr(ours, "ProcessPoolExecutor", lambda processes, _: ThreadPoolExecutor(processes))
