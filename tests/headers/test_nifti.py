"""Whether a NIfTI file holds all of its voxels, which are counted and not kept."""

import gzip
import resource

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.headers import nifti


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_images_and_volumes_are_complete_or_not(tmp_path, shape, ending):
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)), path)
    nifti.check_complete(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is truncated"):
        nifti.check_complete(path)


def test_image_is_no_volume(tmp_path):
    sitk.WriteImage(sitk.Image(7, 6, sitk.sitkUInt8), tmp_path / "image.nii")
    with pytest.raises(InputError, match="7x6, but a case needs one 3D volume"):
        nifti.read_header(tmp_path / "image.nii")


def test_counting_needs_little_memory(tmp_path):
    size = 256
    sitk.WriteImage(sitk.Image(1, 1, 1, sitk.sitkUInt8), tmp_path / "one.nii")
    header = bytearray((tmp_path / "one.nii").read_bytes()[:352])
    header[42:48] = np.full(3, size, "<i2").tobytes()
    path = tmp_path / "blank.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(bytes(header))
        for _ in range(size):
            file.write(bytes(size * size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nifti.check_complete(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < size**3 / 2
