"""Reading and writing for nnU-Net what its own readers cannot: missing channels, DICOM, other axis orders, other grids.

nnU-Net asks its plans for a reader. `PlansOfScans` give it one of ours, which calls the model's: what that can read by
itself comes out unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from rl_nnunet.errors import InputError
from rl_nnunet.headers.dicom import read_series
from rl_nnunet.label_maps import check_labels
from rl_nnunet.scans import check_file, orient, orientation_code, reading, states_orientation

ORIGINAL = "rl_nnunet_original"
"""In the properties of an image whose axes were brought into another order: its geometry as it was found."""


@dataclass(frozen=True)
class Resampled:
    """A channel that is to be resampled to the grid of the others.

    Parameters
    ----------
    source : Path
        Its file, or the folder of its DICOM series.
    transform : array
        From mm in the others to mm in this one, (4, 4).
    """

    source: Path
    transform: np.ndarray


class ScanReader:
    """Stands for a reader of nnU-Net's.

    Parameters
    ----------
    stock_class : type
        The model's reader.
    orientation : str or None
        The axis order that the network was trained on; None leaves images as they are.
    """

    def __init__(self, stock_class: type[BaseReaderWriter], orientation: str | None) -> None:
        self.stock = stock_class()
        self.orientation = orientation

    def read_images(self, sources: Sequence[Path | Resampled | None]) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a case and its properties, as nnU-Net's readers do.

        Parameters
        ----------
        sources : sequence
            Per channel its file or the folder of its DICOM series, `Resampled`, or None where it is missing.

        Raises
        ------
        InputError
            If a file cannot be used.
        """
        read = {index: self._read(source) for index, source in enumerate(sources) if isinstance(source, Path)}
        first, properties = next(iter(read.values()))
        if len(first) == len(sources):  # one channel, or a file of all
            return first, properties
        image = np.zeros((len(sources), *first.shape[1:]), np.float32)
        for index, source in enumerate(sources):
            if index in read:
                image[index] = self._one_channel(source, read[index][0], first)
            elif isinstance(source, Resampled):
                image[index] = self._resample(source, image.shape[1:], properties)
        return image, properties

    def read_seg(self, file: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a segmentation of the previous stage of a cascade."""
        segmentation, properties = self._read(Path(file))
        return check_labels(Path(file), segmentation), properties

    def write_seg(self, segmentation: np.ndarray, file: str, properties: dict[str, Any]) -> None:
        """Write a segmentation (z, y, x), in the axis order in which its image was found."""
        if ORIGINAL in properties:
            original = properties[ORIGINAL]
            image = _to_itk(segmentation, properties["sitk_stuff"])
            code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(original["direction"])
            segmentation = sitk.GetArrayFromImage(orient(image, code))
            properties = {**properties, "sitk_stuff": original}
        self.stock.write_seg(segmentation, file, properties)

    def _read(self, source: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Read one file or series with the model's reader, (1, z, y, x)."""
        # SimpleITK, and with it nnU-Net's reader, takes the files of a series for one.
        file: str | tuple[str, ...] = str(source)
        if source.is_dir():
            file = read_series(source).files
        else:
            check_file(source)
        with reading(source, f"{source} is not a readable image; fetch it again, or remove the case."):
            image, properties = self.stock.read_images([file])
        if not np.isfinite(image).all():
            raise InputError(f"{source} contains NaN or infinity; replace these voxels, or remove the case.")
        return self._orient(source, image, properties)

    def _orient(self, source: Path, image: np.ndarray, properties: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        geometry = properties.get("sitk_stuff")
        if self.orientation is None or geometry is None or len(geometry["spacing"]) != 3:
            return image, properties
        if source.is_file() and not states_orientation(source):
            raise InputError(
                f"{source} does not say how its axes lie in the patient, so it cannot be brought to the axis order "
                f"that the network knows, {self.orientation}; mend its header."
            )
        scan = _to_itk(image[0], geometry)
        if len(image) > 1 or orientation_code(scan) == self.orientation:
            return image, properties
        oriented = orient(scan, self.orientation)
        found = {
            "spacing": oriented.GetSpacing(),
            "origin": oriented.GetOrigin(),
            "direction": oriented.GetDirection(),
        }
        spacing = [abs(edge) for edge in oriented.GetSpacing()[::-1]]
        return sitk.GetArrayFromImage(oriented)[None], {"sitk_stuff": found, "spacing": spacing, ORIGINAL: geometry}

    def _one_channel(self, source: Path, image: np.ndarray, first: np.ndarray) -> np.ndarray:
        if image.shape != first.shape or len(image) != 1:
            raise InputError(f"{source} has another size than the other channels, or several; resample or split it.")
        return image[0]

    def _resample(self, source: Resampled, shape: Sequence[int], properties: dict[str, Any]) -> np.ndarray:
        """Return a companion on the grid of the others, linearly; 0 beyond its edge, as in an absent channel."""
        image, own = self._read(source.source)
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(source.transform[:3, :3].ravel().tolist())
        affine.SetTranslation(source.transform[:3, 3].tolist())
        grid = properties["sitk_stuff"]
        resampled = sitk.Resample(
            _to_itk(image[0], own["sitk_stuff"]), shape[::-1], affine, sitk.sitkLinear, grid["origin"], grid["spacing"],
            grid["direction"], 0.0,
        )  # fmt: skip
        return sitk.GetArrayFromImage(resampled)


def _to_itk(array: np.ndarray, geometry: dict[str, Any]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(geometry["origin"])
    image.SetDirection(geometry["direction"])
    return image


class PlansOfScans(PlansManager):
    """nnU-Net's plans with a `ScanReader` around the reader; processes of nnU-Net's get them as they get its own.

    Parameters
    ----------
    plans : dict
        The content of the plans.
    orientation : str or None
        See `ScanReader`.
    """

    def __init__(self, plans: dict[str, Any], orientation: str | None) -> None:
        super().__init__(plans)
        self.orientation = orientation

    @property
    def image_reader_writer_class(self) -> Any:
        """What makes a reader."""
        return partial(ScanReader, super().image_reader_writer_class, self.orientation)
