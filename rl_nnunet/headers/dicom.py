"""A folder of DICOM files as one scan: which files, in which order, and whether they make up one volume.

ITK stacks whatever it is given, at the distance of the first slices: it notices neither a slice that is missing nor
that the frames of a film lie in one place. All of this is in the headers, and is asked before a voxel is read.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.headers.claimed_size import DEFLATE_RATIO, check_claimed_size, check_memory
from rl_nnunet.headers.geometry import check_geometry
from rl_nnunet.headers.regular_file import check_name, check_regular

ENDINGS = (".dcm", ".ima", ".dicom")
PREAMBLE_BYTES, MAGIC = 128, b"DICM"
POSITION, FRAME_OF_REFERENCE = "0020|0032", "0020|0052"
# In parts of their distance: by how much slices may be off. Headers round to a hundredth of a millimeter.
DISTANCE_TOLERANCE = 0.02
# In mm: slices this close to each other lie in one place.
SAME_PLACE = 1e-3
DIRECTION_TOLERANCE = 1e-3
# In bytes, as ITK reads it and as nnU-Net's 32-bit floats.
LARGEST_PIXEL = 8


@dataclass(frozen=True)
class Series:
    """One series of slices.

    Parameters
    ----------
    files : tuple of str
        In the order of the slices.
    size, spacing, origin : tuple
        Of the volume, x first; in voxels, mm and mm.
    direction : tuple of float
        Of its axes, as SimpleITK has it.
    frame_of_reference : str
        UID of the coordinate system, which scans share between which the patient did not get up; "" if not stated.
    """

    files: tuple[str, ...]
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    frame_of_reference: str


def read_series(folder: Path) -> Series:
    """Return the series in a folder.

    Raises
    ------
    InputError
        If there is none, or several, or its slices do not make up one volume.
    """
    check_name(folder)
    there = [path for path in sorted(folder.iterdir()) if not path.is_dir()]  # folders, GDCM leaves alone
    for path in there:
        check_regular(path)
    with _no_warnings():
        files = _files_of_series(folder, there)
        slices = [_read_header(file) for file in files]
    _check_slices(folder, slices)
    first, gap = slices[0], _check_positions(folder, slices)
    size, spacing = (*first.GetSize()[:2], len(files)), (*first.GetSpacing()[:2], gap or first.GetSpacing()[2])
    check_geometry(folder, size, spacing, first.GetOrigin(), first.GetDirection())
    check_memory(folder, size, LARGEST_PIXEL)
    return Series(
        tuple(files), size, spacing, first.GetOrigin(), first.GetDirection(), _value(first, FRAME_OF_REFERENCE)
    )


def _files_of_series(folder: Path, there: Sequence[Path]) -> list[str]:
    """Return the slices in order, of which none may be left out: GDCM says nothing of a slice that it cannot read."""
    try:
        found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        files = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), found[0])) if found else []
    except RuntimeError:
        for path in filter(_is_dicom, there):
            _read_header(str(path))
        raise InputError(f"{folder} holds damaged DICOM files; fetch the scan again.") from None
    if len(found) > 1:
        raise InputError(f"{folder} holds {len(found)} DICOM series; put each into a folder of its own.")
    names = {Path(file).name for file in files}
    left_out = next((path for path in there if path.name not in names and _is_dicom(path)), None)
    if left_out is not None:
        raise InputError(f"{left_out} is damaged, or no slice of a series; fetch the scan again, or remove the file.")
    if not found:
        raise InputError(f"{folder} holds no DICOM series; correct the folder, or fetch the scan again.")
    return files


def _is_dicom(path: Path) -> bool:
    """Tell whether a file is called like DICOM or begins like it; the table of contents of a medium is no slice."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith("."):
        return False
    if path.suffix.lower() in ENDINGS:
        return True
    with path.open("rb") as file:
        return file.read(PREAMBLE_BYTES + len(MAGIC))[PREAMBLE_BYTES:] == MAGIC


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep ITK from printing what is said in a sentence."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _read_header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise InputError(f"{file} is not a readable DICOM file; fetch the scan again.") from None
    # A pixel has one byte at least.
    size = reader.GetSize()
    check_claimed_size(Path(file), size, math.prod(size), Path(file).stat().st_size, DEFLATE_RATIO)
    return reader


def _value(header: sitk.ImageFileReader, key: str) -> str:
    return header.GetMetaData(key).strip().strip("\0") if header.HasMetaDataKey(key) else ""


def _check_slices(folder: Path, slices: Sequence[sitk.ImageFileReader]) -> None:
    """Refuse slices that are no slices, or do not fit each other."""
    first = slices[0]
    for header in slices:
        file = header.GetFileName()
        if header.GetDimension() > 2 and header.GetSize()[2] > 1:
            raise InputError(f"{file} holds several frames in one file; convert the scan to NIfTI, and give that file.")
        if header.GetNumberOfComponents() != 1:
            raise InputError(f"{file} holds colors; give the scan itself, not a picture of it.")
        if not _value(header, POSITION):
            raise InputError(
                f"{file} does not say where it lies in the patient; give the scan itself, or a NIfTI file."
            )
        same = header.GetSize() == first.GetSize() and np.allclose(header.GetSpacing(), first.GetSpacing(), rtol=1e-3)
        turned = not np.allclose(header.GetDirection(), first.GetDirection(), atol=DIRECTION_TOLERANCE)
        if turned or not same:
            what = "another direction" if turned else "another size or pixel spacing"
            raise InputError(
                f"{file} has {what} than {first.GetFileName()}; keep the slices of one volume in {folder}."
            )
    if len({_value(header, FRAME_OF_REFERENCE) for header in slices}) > 1:
        raise InputError(f"{folder} holds slices of several frames of reference; put each into a folder of its own.")


def _check_positions(folder: Path, slices: Sequence[sitk.ImageFileReader]) -> float:
    """Return the distance of the slices in mm, 0 if there is one only; refuse those that are no even stack."""
    if len(slices) == 1:
        return 0.0
    normal = np.reshape(slices[0].GetDirection(), (3, 3))[:, 2]
    steps = np.diff([header.GetOrigin() for header in slices], axis=0)
    gaps = np.abs(steps @ normal)
    gap = float(np.median(gaps))
    if (gaps < SAME_PLACE).any():
        raise InputError(
            f"{folder} holds several frames: slices that lie in one place, as those of a film do; put one "
            "slice of each place into a folder of its own."
        )
    odd = int(np.abs(gaps - gap).argmax())
    if abs(gaps[odd] - gap) > DISTANCE_TOLERANCE * gap:
        raise InputError(
            f"{folder} has uneven slices: {gaps[odd]:.4g} mm between {Path(slices[odd].GetFileName()).name} and "
            f"{Path(slices[odd + 1].GetFileName()).name}, {gap:.4g} mm elsewhere; add those that are missing, "
            "or resample the scan."
        )
    if (np.linalg.norm(steps - np.outer(steps @ normal, normal), axis=1) > DISTANCE_TOLERANCE * gap).any():
        raise InputError(
            f"{folder} has slices that are shifted against each other, as with a tilted gantry; resample the scan, and "
            "give it as NIfTI."
        )
    return gap
