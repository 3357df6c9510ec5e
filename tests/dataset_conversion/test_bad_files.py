"""Scans whose file does not hold what its header says are refused in one sentence: in time, and in little memory."""

import gzip
import os
import resource
import struct
import time
from pathlib import Path

import pytest
import SimpleITK as sitk


def mutate(path, mutation):
    path.write_bytes(mutation(path.read_bytes()))


@pytest.fixture
def little_memory_and_time():
    """Deny a test more than a GiB of memory, and check that it takes little time."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits, start = resource.getrlimit(resource.RLIMIT_AS), time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.monotonic() - start < 5


def huge_nifti(content):
    return content[:42] + struct.pack("<3h", 17000, 17000, 14) + content[48:]


HUGE = {
    ".nii.gz": ("image.nii.gz", lambda content: gzip.compress(huge_nifti(gzip.decompress(content)))),
    ".mha": ("image.mha", lambda content: content.replace(b"DimSize = 5 6 7", b"DimSize = 17000 17000 14")),
    ".mhd": ("image.mhd", lambda content: content.replace(b"DimSize = 5 6 7", b"DimSize = 17000 17000 14")),
    ".nrrd": ("image.nrrd", lambda content: content.replace(b"sizes: 5 6 7", b"sizes: 17000 17000 14")),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", HUGE)
@pytest.mark.usefixtures("little_memory_and_time")
def test_more_voxels_than_bytes(ending, compressed, write_case, convert, assert_refused):
    for case in ("a", "b"):
        image, _ = write_case(case, ending)
    sitk.WriteImage(sitk.ReadImage(str(image)), str(image), compressed)
    mutate(image, HUGE[ending][1])
    assert_refused(convert(ending=ending), image, "is truncated", "17000x17000x14")


OTHER_FORMATS = {
    "cut": (".mha", lambda content: content[:-1], "is truncated"),
    "cut NRRD": (".nrrd", lambda content: content[:-1], "is truncated"),
    "too long": (".mha", lambda content: content + b"x", "is longer than the 5x6x7 voxels"),
    "NRRD too long": (".nrrd", lambda content: content + b"x", "is longer than the 5x6x7 voxels"),
    "edge huge": (".mha", lambda c: c.replace(b"Spacing = 1 ", b"Spacing = 8518 "), "voxels of 8518x1.5x2 mm"),
    "origin far off": (".mha", lambda c: c.replace(b"Offset = 10", b"Offset = 1e30"), "farther than a scanner"),
    "axis twice": (".mha", lambda c: c.replace(b"Matrix = 1 0 0 0 1 0", b"Matrix = 1 0 0 1 0 0"), "right angles"),
    "sheared": (".mha", lambda c: c.replace(b"Matrix = 1 0 0 0", b"Matrix = 1 0.5 0 0"), "right angles"),
    "axis too long": (".mha", lambda c: c.replace(b"Matrix = 1 0", b"Matrix = 1e30 0"), "right angles"),
    "no axes": (".mha", lambda c: c.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n", b""), "how its axes lie"),
    "dimensions that end the process": (".mha", lambda c: c.replace(b"NDims = 3", b"NDims = 1000000000"), "cannot be"),
    "NRRD dimensions": (".nrrd", lambda c: c.replace(b"dimension: 3", b"dimension: 1000000000"), "cannot be"),
    "negative dimensions": (".mha", lambda c: c.replace(b"NDims = 3", b"NDims = -3"), "cannot be"),
    "negative size": (".mha", lambda c: c.replace(b"DimSize = 5 6 7", b"DimSize = -5 6 7"), "cannot be"),
    "no number": (".nrrd", lambda c: c.replace(b"sizes: 5 6 7", b"sizes: 5 6 seven"), "is not a readable image"),
    "many channels": (
        ".mha",
        lambda c: c.replace(b"ElementType", b"ElementNumberOfChannels = 1000000000\nElementType"),
        "1000000000 values a voxel",
    ),
    "called compressed": (".mha", lambda c: c.replace(b"CompressedData = False", b"CompressedData = True"), "damaged"),
    "skip": (".nrrd", lambda c: c.replace(b"encoding: raw", b"encoding: raw\nbyte skip: 99999999999"), "cannot be"),
    "several files": (".mhd", lambda c: c.replace(b"b_image.raw", b"slice%03d.raw 1 7 1"), "over several files"),
    "file missing": (".mhd", lambda c: c.replace(b"b_image.raw", b"gone.raw"), "gone.raw, which is not there"),
    "NaN in NRRD": (".nrrd", lambda c: c.replace(b"(1,0,0)", b"(nan,0,0)"), "is not a readable image"),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_other_formats(name, write_case, convert, assert_refused):
    ending, mutation, fragment = OTHER_FORMATS[name]
    for case in ("a", "b"):
        image, _ = write_case(case, ending)
    before = image.read_bytes()
    mutate(image, mutation)
    assert image.read_bytes() != before
    assert_refused(convert(ending=ending), image, fragment)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_damaged_compression_of_other_formats(ending, write_case, convert, assert_refused):
    for case in ("a", "b"):
        image, _ = write_case(case, ending)
    sitk.WriteImage(sitk.ReadImage(str(image)), str(image), True)
    assert convert(ending=ending).code == 0
    for part in (slice(-9), slice(-1)):
        mutate(image, lambda content, part=part: content[part])
        assert_refused(convert("-d", 503, ending=ending), image, left=["Dataset502_Test"])


@pytest.mark.parametrize("kind", ["complex", "vectors", "2D", "series"])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_other_formats_of_other_things(kind, ending, write_case, convert, assert_refused):
    for case in ("a", "b"):
        path, _ = write_case(case, ending)
    image = sitk.ReadImage(str(path))
    other = {
        "complex": lambda: sitk.Cast(image, sitk.sitkComplexFloat32),
        "vectors": lambda: sitk.Compose(image, image),
        "2D": lambda: image[:, :, 0],
        "series": lambda: sitk.JoinSeries([image, image]),
    }[kind]()
    sitk.WriteImage(other, str(path))
    assert_refused(convert(ending=ending), path, "one 3D volume per channel")


@pytest.mark.parametrize("ending", [".nii.gz", ".mhd", ".nrrd"])
def test_name_that_is_not_utf8(ending, source, write_case, convert, assert_refused):
    for case in ("a", "b"):
        image, _ = write_case(case, ending)
    for file in source.glob(f"b_*{ending}"):
        os.rename(bytes(file), bytes(file).replace(b"/b_", b"/b\xff_"))
    assert_refused(convert(ending=ending), "a name that is not UTF-8", "rename it")


def test_output_folder_that_is_not_utf8(source, convert, tmp_path, monkeypatch, assert_refused_in_one_sentence):
    folder = tmp_path / os.fsdecode(b"raw\xff")
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    assert_refused_in_one_sentence(convert(), "is not valid UTF-8")
    assert list(folder.iterdir()) == []


def test_pipe(source, convert, assert_refused):
    (source / "b_image.nii").unlink()
    os.mkfifo(source / "b_image.nii")
    assert_refused(convert(), source / "b_label.nii", "has no image")


def test_compressed_under_the_name_of_an_uncompressed_file(source, convert, assert_refused):
    mutate(source / "b_image.nii", gzip.compress)
    assert_refused(convert(), "is compressed, but its name does not say so", "b_image.nii.gz")


@pytest.mark.parametrize("damage", [lambda c: c[:-6] + bytes(6), lambda c: c + b"x", lambda c: c + gzip.compress(b"x")])
def test_damaged_compression(damage, write_case, convert, assert_refused):
    for case in ("a", "b"):
        image, _ = write_case(case, ".nii.gz")
    mutate(image, damage)
    assert_refused(convert(ending=".nii.gz"), image)
