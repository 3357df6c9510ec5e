"""DICOM radiographs as images.

SimpleITK reads them, and applies the rescale slope and intercept. Where a low value is meant to be shown bright
(``MONOCHROME1``, as of films), it inverts the stored values, so that what is dense is bright in all images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.scans import silent_stderr

ENDING = ".dcm"
SIGN, SIGN_AT = b"DICM", 128
DIRECTORY = "DICOMDIR"
"""Name of the file that lists the others of a medium, and is a DICOM file itself."""


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its ending or its sign."""
    if path.suffix.lower() == ENDING:
        return True
    try:
        with path.open("rb") as file:
            file.seek(SIGN_AT)
            return file.read(len(SIGN)) == SIGN and path.name != DIRECTORY
    except OSError:
        return False


def read_radiograph(path: Path) -> np.ndarray:
    """Return the image of a DICOM file, (y, x), float32.

    Raises
    ------
    InputError
        If it cannot be read, has several frames, or colors.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with silent_stderr():
            reader.ReadImageInformation()
            _check(path, reader)
            image = reader.Execute()
    except RuntimeError:
        raise InputError(f"{path} cannot be read as a DICOM image; fetch it again, or remove it.") from None
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    return values.reshape(values.shape[-2:])


def _check(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path} is a DICOM image in color, not a radiograph; save it as PNG, or remove it.")
    frames = int(np.prod(reader.GetSize()[2:]))
    if frames > 1:
        raise InputError(f"{path} has {frames} frames; give one file a frame, or convert it as a volume.")
