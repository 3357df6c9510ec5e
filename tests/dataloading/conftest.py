"""A tiny preprocessed data set on disk, written by nnU-Net's own data set class."""

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

CT_BLANK = -1.25


@pytest.fixture
def write_preprocessed(tmp_path):
    """Return a function that writes cases and returns nnU-Net's data set of them.

    A case is a name and its branches ("ct", "mri" or "pair"). Channel 0 is CT (blank at -1.25), channels 1 and 2 are
    MRI (blank at 0). Images are noise around 100 times the number of the case. Labels 1, 2 and 3 fill two slices each
    in the middle, more than half a patch from every border.
    """

    def write(cases, classes=(1, 2, 3), locations=None, ignore=None):
        for number, (name, kind) in enumerate(cases.items(), 1):
            rng = np.random.default_rng(number)
            data = rng.normal(100 * number, 1, (3, 14, 15, 16)).astype(np.float32)
            if kind == "mri":
                data[0] = CT_BLANK
            if kind == "ct":
                data[1:] = 0
            segmentation = np.zeros((1, 14, 15, 16), np.int16)
            for index, label in enumerate((1, 2, 3)):
                segmentation[0, 4 + 2 * index : 6 + 2 * index, 4:10, 4:11] = label
            if ignore is not None:
                segmentation[0, :, :, 13:] = ignore
            keys = locations or {label: (label,) for label in classes}
            class_locations = {key: np.argwhere(np.isin(segmentation, labels)) for key, labels in keys.items()}
            nnUNetDatasetBlosc2.save_case(
                data, segmentation, {"class_locations": class_locations}, str(tmp_path / name),
                chunks=(1, 8, 8, 8), blocks=(1, 4, 4, 4),
            )  # fmt: skip
        return nnUNetDatasetBlosc2(str(tmp_path))

    return write
