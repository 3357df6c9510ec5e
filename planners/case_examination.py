"""Looking at one training case, in a worker process: which channels it has, and whether nnU-Net can work with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rl_nnunet.errors import InputError
from rl_nnunet.presence.cases import constant_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


@dataclass(frozen=True)
class CaseFindings:
    """What the images and the label of a case show.

    Parameters
    ----------
    constants : tuple of float or None
        Per channel, the value that it has everywhere; None where it varies.
    voxels : int
        Number of voxels of a channel.
    has_foreground : bool
        Whether the label has anything but background.
    """

    constants: tuple[float | None, ...]
    voxels: int
    has_foreground: bool


def examine_case(
    images: list[str], label: str, known_labels: Collection[int], reader: type[BaseReaderWriter]
) -> CaseFindings:
    """Read the files of a case.

    Raises
    ------
    InputError
        If a file cannot be read, or holds what nnU-Net would stumble over later.
    """
    data, properties = _read_images(images, reader)
    _check_complete([*images, label], data, reader)
    for channel, file in zip(data, images, strict=True):
        if not np.isfinite(channel).all():
            raise InputError(f"{file} contains NaN or infinity; replace these voxels, or remove the case.")
    segmentation, label_properties = _read_label(label, reader)
    if segmentation.shape[1:] != data.shape[1:]:
        raise InputError(
            f"{label} has the size {_size(segmentation)}, its image {images[0]} {_size(data)}; check that they belong "
            "together."
        )
    if not np.allclose(label_properties["spacing"], properties["spacing"], rtol=1e-2):
        raise InputError(
            f"{label} has the spacing {_spacing(label_properties)} mm, its image {images[0]} {_spacing(properties)} "
            "mm; check that they belong together, or mend the header."
        )
    found = np.unique(segmentation)
    unknown = [f"{value:g}" for value in found if value not in known_labels]
    if unknown:
        raise InputError(
            f"{label} has labels that dataset.json does not name ({', '.join(unknown[:5])}"
            f'{", ..." if len(unknown) > 5 else ""}); name them under "labels", or take them out of the file.'
        )
    return CaseFindings(tuple(map(constant_value, data)), data[0].size, bool((found > 0).any()))


def _read_images(images: list[str], reader: type[BaseReaderWriter]) -> tuple[np.ndarray, dict]:
    """Read with nnU-Net's reader, which raises all kinds of errors, and prints what it has to say."""
    try:
        data, properties = reader().read_images(images)
    except Exception as error:
        for file in images:
            _check_readable(file, reader)
        raise InputError(
            f"The images of one case differ in size or spacing ({images[0]} and the next{_reason(error)}); resample "
            "them to one grid, or remove the case."
        ) from None
    if len(data) != len(images) or data.ndim != 4:
        raise InputError(
            f"{images[0]} holds {len(data)} volumes with its case's other channels, not {len(images)}; nnU-Net takes "
            "one volume a file: split it."
        )
    if not data.size or not np.isfinite(properties["spacing"]).all() or min(properties["spacing"]) <= 0:
        raise InputError(f"{images[0]} has the spacing {_spacing(properties)} mm, which cannot be; mend its header.")
    return data, properties


def _read_label(label: str, reader: type[BaseReaderWriter]) -> tuple[np.ndarray, dict]:
    try:
        return reader().read_seg(label)
    except Exception as error:
        raise _unreadable(label, error) from None


def _check_complete(files: list[str], data: np.ndarray, reader: type[BaseReaderWriter]) -> None:
    """Read NIfTI volumes once more, and strictly: ITK makes zeros of what is truncated or NaN, and says nothing.

    The other readers complain by themselves; 2D images are no volumes.
    """
    from rl_nnunet.headers.nifti import is_nifti
    from rl_nnunet.scans import read_volume

    if not reader.__name__.startswith("SimpleITK") or data.shape[1] == 1:
        return
    for file in files:
        if is_nifti(Path(file)):
            read_volume(Path(file))


def _check_readable(file: str, reader: type[BaseReaderWriter]) -> None:
    try:
        reader().read_images([file])
    except Exception as error:
        raise _unreadable(file, error) from None


def _unreadable(file: str, error: Exception) -> InputError:
    if isinstance(error, MemoryError):
        return InputError(f"{file} does not fit into the memory; check its header, or take fewer processes (-npfp).")
    if isinstance(error, OSError) and error.strerror is not None:
        return InputError(f"{file} cannot be read ({error.strerror}); check the file and its permissions.")
    return InputError(f"{file} is not a readable image; fetch it again, or remove the case.")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f": {text}" if text else ""


def _size(data: np.ndarray) -> str:
    return "x".join(map(str, data.shape[1:]))


def _spacing(properties: dict) -> str:
    return "x".join(f"{value:.4g}" for value in properties["spacing"])
