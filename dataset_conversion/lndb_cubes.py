"""Cutting cubes around nodules out of CT scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet import scans
from rl_nnunet.dataset_conversion.case_conversion import FILE_ENDING
from rl_nnunet.dataset_conversion.lndb import Nodule
from rl_nnunet.errors import InputError
from rl_nnunet.parallel import errors_in

AIR = -1024.0
"""In Hounsfield units, the lowest value of most scanners."""


@dataclass(frozen=True)
class ScanNodules:
    """What is cut out of one scan: its nodules, and the folder of the cubes."""

    path: Path
    nodules: tuple[Nodule, ...]
    folder: Path


@dataclass
class CutReport:
    """What became of a scan: the cases whose cubes leave it, and the sentence if it cannot be used."""

    name: str
    filled_up: list[str] = field(default_factory=list)
    error: str = ""


def cube_files(folder: Path, nodule: Nodule) -> tuple[Path, Path]:
    """Return the files of the image and of the label map of a cube."""
    return folder / f"{nodule.case}{FILE_ENDING}", folder / f"{nodule.case}_label{FILE_ENDING}"


def cut_scan(item: ScanNodules, *, edge: float) -> CutReport:
    """Write the cube of every nodule of a scan and a label map that is 1 everywhere.

    Parameters
    ----------
    item : ScanNodules
        The scan.
    edge : float
        Of the cubes, in mm.
    """
    report = CutReport(item.path.stem)
    with errors_in(report, f"the scan {item.path}", lambda error: _unwritable(error, item.folder)):
        scan = _read_scan(item.path)
        for nodule in item.nodules:
            cube, is_filled_up = cut_cube(scan, _position(scan, item.path, nodule), edge)
            if is_filled_up:
                report.filled_up.append(nodule.case)
            image_file, label_file = cube_files(item.folder, nodule)
            _check_values(cube, item.path, nodule)
            scans.write_volume(cube, image_file)
            scans.write_volume(scans.blank_like(cube) + 1, label_file)
    return report


def cut_cube(scan: sitk.Image, position: np.ndarray, edge: float) -> tuple[sitk.Image, bool]:
    """Return the voxels of a cube on the grid of its scan, and whether some of them lie outside of the scan.

    Those get the value of air, or the lowest of a scan that is nowhere as dark: the dark end of nnU-Net's CT
    normalization, which clips at a percentile.

    Parameters
    ----------
    scan : Image
        The scan.
    position : array
        Of the center, in voxels of the scan, x first; not outside of it.
    edge : float
        In mm; the nearest whole number of voxels along each axis.
    """
    size = np.maximum(1, np.rint(edge / np.array(scan.GetSpacing()))).astype(int)
    first = np.rint(position - (size - 1) / 2).astype(int)
    before, after = np.maximum(0, -first), np.maximum(0, first + size - scan.GetSize())
    inside = sitk.RegionOfInterest(scan, (size - before - after).tolist(), np.maximum(0, first).tolist())
    if not (before.any() or after.any()):
        return inside, False
    value = max(AIR, float(sitk.GetArrayViewFromImage(scan).min()))
    return sitk.ConstantPad(inside, before.tolist(), after.tolist(), value), True


def _read_scan(path: Path) -> sitk.Image:
    scan = scans.read_image(path)
    if not scans.states_orientation(path):
        raise InputError(
            f"{path} does not say how its axes lie in the patient, so that no center can be found in it; mend its "
            "header."
        )
    return scan


def _position(scan: sitk.Image, path: Path, nodule: Nodule) -> np.ndarray:
    position = np.array(scan.TransformPhysicalPointToContinuousIndex(nodule.center))
    if (position < -0.5).any() or (position >= np.array(scan.GetSize()) - 0.5).any():
        raise InputError(
            f"The center of {nodule.case}, {_text(nodule.center)} mm, lies outside of its scan {path}; correct the "
            "row, or fetch the scan again."
        )
    return position


def _check_values(cube: sitk.Image, path: Path, nodule: Nodule) -> None:
    values = sitk.GetArrayViewFromImage(cube)
    if values.min() == values.max():
        raise InputError(
            f"{path} has the value {values.flat[0]} everywhere around {nodule.case}; correct the row, fetch the scan "
            "again, or make --edge larger."
        )


def _unwritable(error: OSError, folder: Path) -> str:
    return (
        f"The temporary folder {folder.parent} cannot be written ({error.strerror}); free space, or name another one "
        "with TMPDIR."
    )


def _text(center: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in center) + ")"
