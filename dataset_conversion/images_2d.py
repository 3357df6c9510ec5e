"""Photographs and radiographs as scans: finding them and their classes, and reading them whatever their mode.

Pillow reads the files, but for DICOM (see `radiographs`). Palettes are read as colors, and a color becomes its
luminance (ITU-R 601, as in ``Y`` of JPEG); what makes an image transparent is dropped. 8 and 16 bit are both kept as
they are: nnU-Net normalizes each image by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rl_nnunet.class_table import SPLITS
from rl_nnunet.dataset_conversion import radiographs
from rl_nnunet.errors import InputError
from rl_nnunet.headers.regular_file import check_name

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", radiographs.ENDING)
TEST_FOLDERS = ("test",)
PART_FOLDERS = ("train", "val", "valid", "validation", *TEST_FOLDERS)
PATIENT = re.compile(r"patient\w*", re.IGNORECASE)
MURA_STUDY = re.compile(r"study\d+_(?P<label>positive|negative)", re.IGNORECASE)
LUMINANCE = np.array([0.299, 0.587, 0.114])
PIXEL_MM = 0.1
"""The files do not say how large their pixels are; the size of an image in mm has to be one of a scan."""
COLORS = ("R", "G", "B")
AS_THEY_ARE = ("1", "L", "LA", "I", "I;16", "I;16B", "F", "RGB", "RGBA")
"""Modes of Pillow whose values are intensities; others, such as palettes, become colors."""
READ_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow comes to."""


@dataclass(frozen=True)
class Image2D:
    """One image: its file, the name of its class, and where it belongs."""

    path: Path
    label: str
    case: str
    patient: str
    is_test: bool = False


def find_images(folder: Path) -> list[Image2D]:
    """Return the images of folders that are called like classes, or in the layout of MURA.

    The folders of the classes may lie in folders called train, val or test. A folder on the way that is called patient
    and something says who is shown.

    Raises
    ------
    InputError
        If there is no folder, no image, or an image that lies in no folder of a class.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; correct -i.")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(folder, path)]
    images = [path for path in paths if _is_image(path)]
    if not images:
        raise InputError(f"{folder} holds no image ({', '.join(ENDINGS)}); correct -i.")
    return _unique([_image(folder, path) for path in images])


def _is_hidden(folder: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_image(path: Path) -> bool:
    """Tell whether a file is an image by its ending or, if it has none, a DICOM file by its content."""
    return path.suffix.lower() in ENDINGS or (not _ending(path) and radiographs.is_dicom(path))


def _ending(path: Path) -> str:
    """Return the ending of a file; DICOM files are called by numbers with dots, which are none."""
    return "" if path.suffix[1:].isdigit() else path.suffix


def _unique(images: list[Image2D]) -> list[Image2D]:
    first: dict[str, Image2D] = {}
    for image in images:
        other = first.setdefault(image.case, image)
        if other is not image:
            raise InputError(
                f"{other.path} and {image.path} would both become the case {image.case}; rename one, or list each once."
            )
    return images


def _image(folder: Path, path: Path) -> Image2D:
    *parts, _ = path.relative_to(folder).parts
    study = next(filter(None, map(MURA_STUDY.fullmatch, parts)), None)
    is_test = bool(parts) and parts[0].lower() in TEST_FOLDERS
    inner = parts[1:] if parts and parts[0].lower() in PART_FOLDERS else parts
    if study is None and not inner:
        raise InputError(
            f"{path} lies in no folder of a class; sort the images into one folder a class, or name their classes in a "
            "table (--table)."
        )
    return Image2D(path, study["label"] if study else inner[0], _case(folder, path), _patient(folder, path), is_test)


def _case(folder: Path, path: Path) -> str:
    name = "_".join(path.relative_to(folder).parts).removesuffix(_ending(path))
    return re.sub(r"[^\w.-]+", "_", name)


def _patient(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).parts[:-1]
    return next((part for part in parts if PATIENT.fullmatch(part)), _case(folder, path))


def images_of_table(folder: Path, rows: Sequence[Mapping[str, str]], table: Path) -> list[Image2D]:
    """Return the images that a table names: columns ``file``, ``label`` and, if there are any, ``split``, ``patient``.

    Raises
    ------
    InputError
        If a column or a file is missing, a label is empty, or a split does not exist.
    """
    for column in ("file", "label"):
        if not rows or column not in rows[0]:
            raise InputError(f"{table} has no rows with a column {column}; it needs file and label, in its first line.")
    images = []
    for row in rows:
        path, split = folder / row["file"], row.get("split") or SPLITS[0]
        if not path.is_file():
            raise InputError(f"{table} names {row['file']}, but there is no {path}; correct the table, or -i.")
        if not row["label"]:
            raise InputError(f"{table} states no label of {row['file']}; complete or remove its row.")
        if split not in SPLITS:
            raise InputError(f"{table} states {split!r} as the split of {row['file']}; write {' or '.join(SPLITS)}.")
        patient = row.get("patient") or _patient(folder, path)
        images.append(Image2D(path, row["label"], _case(folder, path), patient, split == "test"))
    return _unique(images)


def read_pixels(path: Path, *, color: bool) -> np.ndarray:
    """Return the channels of an image, (1, y, x) or, with `color`, (3, y, x), float32.

    Raises
    ------
    InputError
        If it cannot be read, has more than one slice, is as small as a pixel, or has one value everywhere; a DICOM
        file also if it has colors.
    """
    check_name(path)
    pixels = radiographs.read_radiograph(path) if radiographs.is_dicom(path) else _read_picture(path)
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if min(bands.shape[1:]) < 2:
        raise InputError(f"{path} has {bands.shape[2]}x{bands.shape[1]} pixels, which show nothing; remove it.")
    channels = _colors(bands) if color else _gray(bands)
    if channels.min() == channels.max():
        raise InputError(f"{path} has one value everywhere, and would count as absent; remove it.")
    return channels


def _read_picture(path: Path) -> np.ndarray:
    """Return what Pillow reads, (y, x) or (y, x, bands), float32."""
    try:
        with Image.open(path) as image:
            slices = getattr(image, "n_frames", 1)
            pixels = np.asarray(image if image.mode in AS_THEY_ARE else image.convert("RGB"), np.float32)
    except READ_ERRORS:
        raise InputError(f"{path} cannot be read as an image; fetch it again, or remove it.") from None
    if slices > 1:
        raise InputError(f"{path} has {slices} slices; give one file a slice, or convert it as a volume.")
    return pixels


def _colors(bands: np.ndarray) -> np.ndarray:
    """Return red, green and blue; two bands are gray and opacity, four end with it."""
    return bands[:3] if len(bands) >= 3 else np.repeat(bands[:1], 3, 0)


def _gray(bands: np.ndarray) -> np.ndarray:
    return np.tensordot(LUMINANCE, bands[:3], 1)[None].astype(np.float32) if len(bands) >= 3 else bands[:1]
