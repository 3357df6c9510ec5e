"""A folder of DICOM files is one volume, or refused in a sentence."""

import os
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.headers.dicom import read_series

VOLUME = np.random.default_rng(0).integers(-500, 500, (5, 6, 8))
OBLIQUE = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
OBLIQUE[:, 2] = np.cross(OBLIQUE[:, 0], OBLIQUE[:, 1])
GEOMETRY = {"spacing": (0.7, 0.8, 3.5), "origin": (-10.5, 20.0, 4.0), "direction": OBLIQUE}


def test_geometry_is_that_of_the_volume_as_itk_reads_it(tmp_path, write_dicom):
    series = read_series(write_dicom(tmp_path / "scan", VOLUME, **GEOMETRY))
    image = sitk.ReadImage(series.files)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VOLUME)
    assert series.size == image.GetSize() == (8, 6, 5)
    np.testing.assert_allclose(series.spacing, image.GetSpacing(), rtol=1e-4)
    np.testing.assert_allclose(series.spacing, GEOMETRY["spacing"], rtol=1e-4)
    np.testing.assert_allclose(series.origin, image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(series.direction, image.GetDirection(), atol=1e-4)
    np.testing.assert_allclose(series.direction, OBLIQUE.ravel(), atol=1e-4)
    assert series.frame_of_reference == "1.2.826.7"


def test_one_slice_is_a_volume(tmp_path, write_dicom):
    series = read_series(write_dicom(tmp_path / "scan", VOLUME[:1]))
    assert series.size == (8, 6, 1)


def stack(*places):
    return {"positions": [(0.0, 0.0, place) for place in places]}


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (stack(0, 3, 6, 12, 15), "uneven slices: 6 mm between"),
        (stack(0, 0, 3, 3, 6), "several frames"),
        ({"positions": [(0.0, 0.5 * i, 3.0 * i) for i in range(5)]}, "tilted gantry"),
    ],
)
def test_slices_that_make_up_no_volume_are_refused(tmp_path, write_dicom, options, fragment):
    folder = write_dicom(tmp_path / "scan", VOLUME, **options)
    with pytest.raises(InputError, match=fragment):
        read_series(folder)


def test_series_that_are_mixed_are_refused(tmp_path, write_dicom):
    write_dicom(tmp_path / "scan", VOLUME)
    folder = write_dicom(tmp_path / "scan", VOLUME, series="1.2.826.2", origin=(0, 0, 50))
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        read_series(folder)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"frame": "1.2.826.8"}, "several frames of reference"),
        ({"spacing": (2.0, 1.0, 2.0)}, "another size or pixel spacing"),
        ({"direction": np.diag([-1.0, -1.0, 1.0])}, "another direction"),
    ],
)
def test_slices_of_another_volume_under_the_same_series_are_refused(tmp_path, write_dicom, options, fragment):
    folder = write_dicom(tmp_path / "scan", VOLUME)
    write_dicom(tmp_path / "others", VOLUME[:1], origin=(0, 0, 10), **options)
    (tmp_path / "others").joinpath("1.2.826.1_0_0.dcm").rename(folder / "sixth.dcm")
    with pytest.raises(InputError, match=fragment):
        read_series(folder)


@pytest.mark.parametrize("size", [100, 400, -7])
def test_slice_that_gdcm_leaves_out_without_a_word_is_refused(tmp_path, write_dicom, size):
    last = sorted(write_dicom(tmp_path / "scan", VOLUME).iterdir(), key=lambda file: file.stem.split("_")[-1])[-1]
    last.write_bytes(last.read_bytes()[:size])
    with pytest.raises(InputError, match=f"{last.name} is damaged, or no slice of a series"):
        read_series(tmp_path / "scan")


def test_damaged_slice_that_gdcm_stumbles_over_is_named(tmp_path, write_dicom):
    file = next(write_dicom(tmp_path / "scan", VOLUME).iterdir())
    samples_per_pixel = struct.pack("<HHIH", 0x28, 0x02, 2, 1)
    assert samples_per_pixel in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(samples_per_pixel, samples_per_pixel[:-2] + b"\xff\xff"))
    with pytest.raises(InputError, match=f"{file.name} is not a readable DICOM file"):
        read_series(tmp_path / "scan")


def test_slice_that_claims_more_than_it_can_hold_is_refused(tmp_path, write_dicom):
    for file in write_dicom(tmp_path / "scan", VOLUME).iterdir():
        content = file.read_bytes()
        for tag in (0x10, 0x11):
            where = content.find(struct.pack("<HHI", 0x28, tag, 2)) + 8
            content = content[:where] + b"\xff\xff" + content[where + 2 :]
        file.write_bytes(content)
    with pytest.raises(InputError, match="65535x65535"):
        read_series(tmp_path / "scan")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_pipe_among_the_slices_is_refused(tmp_path, write_dicom):
    os.mkfifo(write_dicom(tmp_path / "scan", VOLUME) / "pipe.dcm")
    with pytest.raises(InputError, match="pipe.dcm is not a file"):
        read_series(tmp_path / "scan")


def test_what_lies_beside_the_slices_is_left_alone(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "scan", VOLUME)
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / ".hidden.dcm").write_bytes(b"of a file manager")
    (folder / "notes.txt").write_text("none")
    (folder / "more").mkdir()
    assert len(read_series(folder).files) == len(VOLUME)


def test_folder_without_series_is_refused_without_a_word_of_itks(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_series(tmp_path)
    assert capfd.readouterr().err == ""
