"""Single scans: reading, checking, reorienting, resampling and writing; every defect becomes one sentence."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError

from rl_nnunet.errors import InputError
from rl_nnunet.headers import nifti, text
from rl_nnunet.headers.claimed_size import check_claimed_size, check_memory, format_shape
from rl_nnunet.headers.geometry import check_geometry, not_at_right_angles
from rl_nnunet.headers.regular_file import check_name, check_regular

# Of what is compressed in another way than by deflate, such as TIFF's LZW.
OTHER_RATIO = 4096
# nnU-Net works in 32-bit floats.
FLOAT_BYTES = 4
# Two headers describe one grid if no corner of the volume moves by more than this part of the smallest voxel edge.
GRID_TOLERANCE = 0.1
# Differences below this many mm are what a header's 32-bit floats round away, and not worth a notice.
ROUNDING_MM = 1e-5


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
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
        If the file is unreadable, truncated, something other than a 3D scalar volume, describes a grid that cannot be,
        or holds NaN or infinity.
    """
    check_regular(path)
    try:
        image = _read_nifti(path) if nifti.is_nifti(path) else _read_other(path)
    except (OSError, RuntimeError, ValueError, OverflowError, HeaderDataError) as error:
        raise InputError(_unreadable(path, error)) from None
    check_geometry(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    values = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise InputError(f"{path} contains NaN or infinity; replace these voxels, or remove the case.")
    return image


def _read_nifti(path: Path) -> sitk.Image:
    """Read the geometry with ITK, as nnU-Net does, and the voxels without: ITK makes up those that are not there."""
    values = nifti.read_voxels(path, nifti.read_header(path))
    image = sitk.GetImageFromArray(values)
    reader = _read_information(path)
    image.SetSpacing(reader.GetSpacing())
    image.SetOrigin(reader.GetOrigin())
    image.SetDirection(reader.GetDirection())
    return image


def _read_other(path: Path) -> sitk.Image:
    text.check_size(path)
    reader = _read_information(path)
    _check_scalar(path, reader)
    text.check_voxel_file(path, reader.GetSize(), _bytes_a_voxel(reader))
    with silent_stderr():
        return reader.Execute()


def _check_scalar(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path} holds complex numbers or vectors; save one value a voxel.")


def _bytes_a_voxel(reader: sitk.ImageFileReader) -> int:
    values = reader.GetNumberOfComponents()
    return sitk.Image((1, 1, 1), reader.GetPixelID(), values).GetSizeOfPixelComponent() * values


def _read_information(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with silent_stderr():
        reader.ReadImageInformation()
    return reader


def read_information(path: Path) -> sitk.ImageFileReader:
    """Read what the header says of an image or volume, without its voxels.

    Raises
    ------
    InputError
        If there is no file, it cannot be read, or its header says what cannot be.
    """
    check_regular(path)
    try:
        if nifti.is_nifti(path):
            nifti.read_header(path, flat=True)
        elif text.is_text(path):
            text.check_size(path, flat=True)
        reader = _read_information(path)
    except (OSError, RuntimeError, ValueError, OverflowError, HeaderDataError) as error:
        raise InputError(_unreadable(path, error)) from None
    _check_information(path, reader)
    return reader


def _check_information(path: Path, reader: sitk.ImageFileReader) -> None:
    size, voxel_bytes = reader.GetSize(), _bytes_a_voxel(reader)
    if _is_scan(path):
        _check_scalar(path, reader)
        check_geometry(path, size, reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    else:
        check_claimed_size(path, size, math.prod(size) * voxel_bytes, path.stat().st_size, OTHER_RATIO)
    check_memory(path, size, voxel_bytes + FLOAT_BYTES * reader.GetNumberOfComponents())


def _is_scan(path: Path) -> bool:
    """Tell whether the format is one whose headers we know; others are pictures, mostly."""
    return nifti.is_nifti(path) or text.is_text(path)


def check_file(path: Path) -> None:
    """Check a file before one of nnU-Net's readers opens it, all of which trust what headers say.

    ITK allocates whatever a header promises, and fills with zeros what is not there; nibabel likewise. After this, the
    reader has a regular file with as many voxels as its header states, and no reason to wait or to go round in circles.

    Raises
    ------
    InputError
        As `read_information`, and if voxels are missing.
    """
    if not _is_scan(path):
        check_regular(path)
        # Pictures have readers of their own, which take more kinds than ITK, and say what they do not take.
        with contextlib.suppress(RuntimeError):
            _check_information(path, _read_information(path))
        return
    check_regular(path)
    try:
        if nifti.is_nifti(path):
            _check_nifti(path)
        else:
            information = read_information(path)
            text.check_voxel_file(path, information.GetSize(), _bytes_a_voxel(information))
    except (OSError, ValueError, HeaderDataError) as error:
        raise InputError(_unreadable(path, error)) from None


def _check_nifti(path: Path) -> None:
    """Check header and number of voxels without ITK, which takes longer to open a small file than to read it.

    Its choice of qform or sform is left to it: neither makes an image larger.
    """
    header = nifti.read_header(path, flat=True)
    shape = nifti.shape_of(header)
    check_geometry(path, shape, nifti.edges_of(header), np.zeros(3), np.eye(3))
    check_memory(path, shape, header.get_data_dtype().itemsize + FLOAT_BYTES)
    nifti.check_complete(path)


@contextlib.contextmanager
def reading(path: Path, sentence: str) -> Iterator[None]:
    """Put what nnU-Net's readers come to into a sentence: on damaged files, it can be anything."""
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path} does not fit into the memory; crop or resample it, or mend its header.") from None
    except Exception:  # noqa: BLE001 - see above
        raise InputError(sentence) from None


def states_orientation(path: Path) -> bool:
    """Tell whether a readable file says how the axes lie in the patient; ITK makes it up otherwise."""
    if nifti.is_nifti(path):
        return nifti.states_orientation(nifti.read_header(path))
    return text.states_orientation(path)


def _unreadable(path: Path, error: Exception) -> str:
    """Return the sentence for an error on reading a file; on damaged headers, the libraries raise many kinds."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{path} cannot be read ({error.strerror}); check the file and its permissions."
    if "orthonormal" in str(error) or "determinant" in str(error):
        return not_at_right_angles(path)
    return f"{path} is not a readable image; fetch it again, or remove the case."


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
    """Write a NIfTI volume, compressed if its name ends in ``.gz``.

    Raises
    ------
    OSError
        If it did not arrive on the disk completely, with the reason as far as the system tells it.
    """
    check_name(path)
    try:
        with silent_stderr():
            sitk.WriteImage(image, str(path), True)
    except RuntimeError:
        # ITK does not say why, the system does.
        path.open("ab").close()
        raise OSError(errno.EIO, "the file could not be written", str(path)) from None
    _flush(path)
    try:
        nifti.check_complete(path)
    except InputError:
        # ITK reports no error on a full disk.
        raise OSError(errno.ENOSPC, "the disk or quota is full", str(path)) from None


def _flush(path: Path) -> None:
    """Wait until a file is on the disk: file systems in the network say only then that it is full."""
    try:
        with path.open("r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def format_size(image: sitk.Image) -> str:
    """Return the size as text, such as ``192x192x12``."""
    return format_shape(image.GetSize())
