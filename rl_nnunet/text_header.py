"""The headers of NRRD and MetaImage files, as far as they tell where the voxels lie: ITK allocates before it looks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from rl_nnunet.claimed_size import DEFLATE_RATIO, check_claimed_size, too_long
from rl_nnunet.errors import InputError

META_ENDINGS = (".mha", ".mhd")
NRRD_ENDINGS = (".nrrd", ".nhdr")
ENDINGS = (*META_ENDINGS, *NRRD_ENDINGS)
# Far more than a header has; a file without line breaks is not read as one line.
MOST_LINES, LONGEST_LINE = 1000, 10_000
# Digits and a blank need two bytes at least, a voxel has eight at most.
TEXT_RATIO = 4
FILE_FIELDS = ("elementdatafile", "data file", "datafile")
# Lists of files, and patterns that count.
SEVERAL_FILES = re.compile(r"^list\b|%", re.IGNORECASE)
# They say how many bytes before the voxels are something else.
SKIPPING_FIELDS = {"headersize", "byte skip", "byteskip", "line skip", "lineskip"}


def check_voxel_file(path: Path, shape: Sequence[int], voxel_bytes: int) -> None:
    """Compare the size that a header claims with the file of the voxels, which may be another one.

    Parameters
    ----------
    path : Path
        The header.
    shape : sequence of int
        Size in voxels.
    voxel_bytes : int
        Bytes a voxel.

    Raises
    ------
    InputError
        If the voxels are spread over several files, the file is missing, or its size does not fit.
    """
    fields, header_bytes = _read_fields(path)
    file = _voxel_file(path, fields)
    available = file.stat().st_size - (header_bytes if file == path else 0)
    claimed, ratio = math.prod(shape) * voxel_bytes, _ratio(fields)
    check_claimed_size(path, shape, claimed, available, ratio)
    if ratio == 1 and claimed < available and fields.keys().isdisjoint(SKIPPING_FIELDS):
        raise too_long(path, shape)


def states_orientation(path: Path) -> bool:
    """Tell whether a header says how the axes lie in the patient."""
    fields, _ = _read_fields(path)
    return not fields.keys().isdisjoint({"space", "transformmatrix", "rotation", "orientation"})


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header, their names in lower case, and its length in bytes."""
    fields: dict[str, str] = {}
    separator = "=" if path.name.lower().endswith(META_ENDINGS) else ":"
    with path.open("rb") as file:
        for _ in range(MOST_LINES):
            line = file.readline(LONGEST_LINE).decode("utf-8", "replace").strip()
            name, found, value = line.partition(separator)
            if found:
                fields[name.strip().lower()] = value.strip()
            # Here MetaImage's header ends; NRRD's with an empty line.
            if not line or name.strip() == "ElementDataFile":
                break
        return fields, file.tell()


def _voxel_file(path: Path, fields: dict[str, str]) -> Path:
    """Return the file that holds the voxels."""
    name = next((fields[field] for field in FILE_FIELDS if field in fields), "LOCAL")
    if name.upper() == "LOCAL":
        return path
    if SEVERAL_FILES.search(name):
        raise InputError(f"{path} spreads its voxels over several files; save it as one file.")
    file = path.parent / name
    if not file.is_file():
        raise InputError(f"{path} keeps its voxels in {file}, which is not there; fetch that file, too.")
    return file


def _ratio(fields: dict[str, str]) -> int:
    """Return how many bytes of voxels one byte in the file can stand for at most."""
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true":
        return DEFLATE_RATIO
    return 1 if encoding == "raw" and fields.get("binarydata", "true").lower() == "true" else TEXT_RATIO
