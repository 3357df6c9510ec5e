"""Reading, checking, reorienting and writing single volumes; every defect becomes one sentence."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import logging
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel import imageglobals
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from rl_nnunet.errors import InputError

NIFTI_ENDINGS = (".nii", ".nii.gz")
GZIP_START = b"\x1f\x8b"
# Two headers describe one grid if no corner of the volume moves by more than this part of the smallest voxel edge.
GRID_TOLERANCE = 0.1
# Differences below this many mm are what a header's 32-bit floats round away, and not worth a notice.
ROUNDING_MM = 1e-5

# nibabel prints remarks on headers; those that matter become a sentence.
imageglobals.logger.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C code prints: the NIfTI library writes its complaints to file descriptor 2 by itself."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def read_volume(path: Path) -> sitk.Image:
    """Read a 3D scalar volume.

    Raises
    ------
    InputError
        If the file is unreadable, truncated, something other than a 3D scalar volume, or holds NaN or infinity.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _silent_stderr():
            image = reader.Execute()
        complete = _is_complete(path, reader)
        finite = not complete or _is_finite(path, image)
    except (OSError, RuntimeError, ValueError, OverflowError, HeaderDataError, ImageFileError) as error:
        raise InputError(_unreadable(path, error)) from None
    if not complete:
        if _is_called_compressed(path) and not _is_compressed(path):
            raise InputError(f"{path} is not compressed, but its name says so; rename it to {path.stem}.")
        raise InputError(f"{path} is truncated; fetch it again, or remove the case.")
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path} has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values a voxel; "
            "a case needs one 3D volume per channel: split the file."
        )
    if not finite:
        raise InputError(f"{path} contains NaN or infinity; replace these voxels, or remove the case.")
    return image


def _unreadable(path: Path, error: Exception) -> str:
    """Return the sentence for an error on reading a file; on damaged headers, the libraries raise many kinds."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{path} cannot be read ({error.strerror}); check the file and its permissions."
    if "orthonormal" in str(error):
        return f"{path} has axes that are not at right angles; resample it, or mend its header."
    return f"{path} is not a readable image; fetch it again, or remove the case."


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_ENDINGS)


def _is_called_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_START)) == GZIP_START


def _is_finite(path: Path, image: sitk.Image) -> bool:
    """Tell whether a file is free of NaN and infinity, which ITK turns into zeros when it reads NIfTI."""
    if not np.issubdtype(sitk.GetArrayViewFromImage(image).dtype, np.floating):
        return True
    values = nibabel.load(path).dataobj.get_unscaled() if _is_nifti(path) else sitk.GetArrayViewFromImage(image)
    return bool(np.isfinite(values).all())


def _is_complete(path: Path, reader: sitk.ImageFileReader) -> bool:
    """Tell whether a NIfTI file holds all voxels that its header promises.

    ITK fills the voxels of a truncated NIfTI file with zeros, and reports no error when it could not write one to a
    full disk.
    """
    if not _is_nifti(path):
        return True
    header_bytes, bits = int(float(reader.GetMetaData("vox_offset"))), int(reader.GetMetaData("bitpix"))
    expected = header_bytes + int(np.prod(reader.GetSize(), dtype=np.int64)) * bits // 8
    if not _is_called_compressed(path):
        return path.stat().st_size >= expected
    try:
        with gzip.open(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(1 << 20), b"")) >= expected
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False


def read_image(path: Path) -> sitk.Image:
    """Read an image in a pixel type that nnU-Net reads, and check its values.

    Raises
    ------
    InputError
        As `read_volume`, and if the image has one value only, or values that 32-bit floats cannot hold.
    """
    image = read_volume(path)
    if image.GetPixelID() == sitk.sitkFloat64:
        image = sitk.Cast(image, sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    if not np.isfinite(values).all():
        raise InputError(f"{path} has values beyond the range of 32-bit floats; rescale them, or remove the case.")
    if values.min() == values.max():
        # It would look like the image of a branch that the case does not have.
        raise InputError(f"{path} has the value {values.flat[0]} everywhere; fetch it again, or remove the case.")
    return image


def take_geometry(volume: sitk.Image, path: Path, reference: sitk.Image, reference_path: Path) -> bool:
    """Give a volume the geometry of the image it belongs to, if the two describe one grid.

    Returns
    -------
    bool
        Whether the geometry differed by more than rounding.

    Raises
    ------
    InputError
        If the size differs, or the geometry by more than `GRID_TOLERANCE`.
    """
    if volume.GetSize() != reference.GetSize():
        raise InputError(
            f"{path} has the size {format_size(volume)}, its image {reference_path} {format_size(reference)}; "
            "check that they belong together."
        )
    displacement = _largest_displacement(volume, reference)
    if displacement > GRID_TOLERANCE * min(reference.GetSpacing()):
        differing = [
            name
            for name in ("Origin", "Spacing", "Direction")
            if not np.allclose(
                getattr(volume, f"Get{name}")(), getattr(reference, f"Get{name}")(), rtol=1e-4, atol=1e-4
            )
        ]
        raise InputError(
            f"{path} lies up to {displacement:.3g} mm off its image {reference_path} "
            f"({' and '.join(differing).lower()} differ); check that they belong together, or mend the header."
        )
    volume.CopyInformation(reference)
    return displacement > ROUNDING_MM


def _largest_displacement(one: sitk.Image, other: sitk.Image) -> float:
    """Return by how many mm the corners of two volumes of one size lie apart at most."""
    corners = itertools.product(*((0, extent - 1) for extent in one.GetSize()))
    return max(
        float(np.linalg.norm(np.subtract(*(v.TransformIndexToPhysicalPoint(corner) for v in (one, other)))))
        for corner in corners
    )


def orient(image: sitk.Image, orientation: str) -> sitk.Image:
    """Permute and flip the axes to the given orientation code (the closest one if oblique), or "keep" them."""
    return image if orientation == "keep" else sitk.DICOMOrient(image, orientation)


def orientation_code(image: sitk.Image) -> str:
    """Return the orientation code of the axes, such as "LPS", in SimpleITK's convention."""
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())


def blank_like(image: sitk.Image) -> sitk.Image:
    """Return the all-zero image that stands for an absent channel."""
    blank = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    blank.CopyInformation(image)
    return blank


def resample_like(image: sitk.Image, reference: sitk.Image) -> sitk.Image:
    """Resample linearly to the grid of a reference, through physical space; 0 outside."""
    return sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0)


def is_blank(image: sitk.Image) -> bool:
    """Tell whether an image is zero everywhere."""
    return not sitk.GetArrayViewFromImage(image).any()


def write_volume(image: sitk.Image, path: Path) -> None:
    """Write a compressed volume; `OSError` if it did not arrive on the disk completely."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _silent_stderr():
            sitk.WriteImage(image, str(path), True)
            reader.ReadImageInformation()
    except RuntimeError:
        raise OSError(errno.EIO, "the file could not be written", str(path)) from None
    if not _is_complete(path, reader):
        raise OSError(errno.ENOSPC, "the disk or quota is full", str(path))


def format_size(image: sitk.Image) -> str:
    """Return the size as text, such as ``192x192x12``."""
    return "x".join(map(str, image.GetSize()))
