"""Single scans: reading, checking, reorienting, resampling and writing; every defect becomes one sentence."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from rl_nnunet.errors import InputError
from rl_nnunet.headers import nifti, text
from rl_nnunet.headers.claimed_size import format_shape

READ_ERRORS = (RuntimeError, OSError, EOFError, ValueError, ImageFileError)
"""What nnU-Net's readers come to."""
# Two headers describe one grid if no corner of the volume moves by more than this part of the smallest voxel edge.
GRID_TOLERANCE = 0.1
# Differences below this many mm are what a header's 32-bit floats round away, and not worth a notice.
ROUNDING_MM = 1e-5
# Voxel edges in mm: micro-CT comes down to a thousandth, the slices of surveys lie up to 50 apart.
SMALLEST_SPACING, LARGEST_SPACING = 0.001, 100.0
# In mm: a whole body on its table, and the farthest that a coordinate system of a scanner's room lies off.
LARGEST_EXTENT, LARGEST_ORIGIN = 3000.0, 10_000.0
# Of the cosines between axes, which headers in text round to few digits.
AXES_TOLERANCE = 0.01


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
    check_name(path)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise InputError(f"{path} is not a file; remove it, or correct the pattern.")
        image = _read_nifti(path) if nifti.is_nifti(path) else _read_other(path)
    except (OSError, RuntimeError, ValueError, OverflowError, HeaderDataError) as error:
        raise InputError(_unreadable(path, error)) from None
    _check_grid(path, image)
    values = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise InputError(f"{path} contains NaN or infinity; replace these voxels, or remove the case.")
    return image


def check_name(path: Path) -> None:
    """Raise `InputError` if ITK cannot open a file of this name: on bytes that are no UTF-8, it ends the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} has a name that is not UTF-8, which ITK cannot open; rename it.") from None


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
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path} holds complex numbers or vectors; save one value a voxel.")
    voxel_bytes = sitk.Image(1, 1, 1, reader.GetPixelID()).GetSizeOfPixelComponent()
    text.check_voxel_file(path, reader.GetSize(), voxel_bytes)
    with silent_stderr():
        return reader.Execute()


def _read_information(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with silent_stderr():
        reader.ReadImageInformation()
    return reader


def read_information(path: Path) -> sitk.ImageFileReader:
    """Read what the header says of a file, without its voxels.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    check_name(path)
    try:
        return _read_information(path)
    except (OSError, RuntimeError) as error:
        raise InputError(_unreadable(path, error)) from None


def _check_grid(path: Path, image: sitk.Image) -> None:
    """Refuse grids that no scanner makes: a header is damaged, or in other units."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    if not (np.isfinite(origin).all() and np.isfinite(image.GetDirection()).all()):
        raise InputError(f"{path} has a position of numbers that are not finite; mend its header.")
    axes = np.reshape(image.GetDirection(), (3, 3))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=AXES_TOLERANCE):
        raise InputError(_not_at_right_angles(path))
    if not ((spacing >= SMALLEST_SPACING).all() and (spacing <= LARGEST_SPACING).all()):
        raise InputError(
            f"{path} has voxels of {'x'.join(f'{edge:.4g}' for edge in spacing)} mm, where those of scans "
            f"measure {SMALLEST_SPACING:g} to {LARGEST_SPACING:g} mm; mend its header."
        )
    extent = spacing * image.GetSize()
    if extent.max() > LARGEST_EXTENT or np.abs(origin).max() > LARGEST_ORIGIN:
        raise InputError(
            f"{path} covers {'x'.join(f'{edge:.4g}' for edge in extent)} mm from the position "
            f"({', '.join(f'{position:.4g}' for position in origin)}) mm on, farther than a scanner reaches; mend its "
            "header."
        )


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
        return _not_at_right_angles(path)
    return f"{path} is not a readable image; fetch it again, or remove the case."


def _not_at_right_angles(path: Path) -> str:
    return f"{path} has axes that are not at right angles; resample it, or mend its header."


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
