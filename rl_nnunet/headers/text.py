"""The headers of NRRD and MetaImage files, as far as they tell the size and where the voxels lie.

ITK allocates before it looks at the file, and a header with too many dimensions ends the process.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from rl_nnunet.errors import InputError
from rl_nnunet.headers.claimed_size import DEFLATE_RATIO, check_claimed_size, too_long

META_ENDINGS = (".mha", ".mhd")
ENDINGS = (*META_ENDINGS, ".nrrd", ".nhdr")
# Far more than a header has; a file without line breaks is not read as one line.
MOST_LINES, LONGEST_LINE = 1000, 10_000
# Digits and a blank need two bytes at least, a voxel has eight at most.
TEXT_RATIO = 4
SPELLINGS = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
FILE_FIELDS = ("elementdatafile", "data file")
# Lists of files, and patterns that count.
SEVERAL_FILES = re.compile(r"^list\b|%", re.IGNORECASE)
# They say how many bytes before the voxels are something else.
SKIPPING_FIELDS = {"headersize", "byte skip", "line skip"}
MOST_SKIPPED = 1 << 30
# zlib's sign for either; and what is decompressed at once.
ZLIB_OR_GZIP, BLOCK = 47, 1 << 16


def is_text(path: Path) -> bool:
    """Tell whether a file is called like NRRD or MetaImage."""
    return path.name.lower().endswith(ENDINGS)


def check_size(path: Path, *, flat: bool = False) -> None:
    """Check the size that a header states.

    Parameters
    ----------
    path : Path
        The file.
    flat : bool
        Whether it may hold a 2D image.

    Raises
    ------
    InputError
        If it is not that of one 3D volume, or is not stated in whole numbers.
    """
    fields, _ = _read_fields(path)
    try:
        (dimensions,) = _whole_numbers(fields, "ndims", "dimension")
        shape = _whole_numbers(fields, "dimsize", "sizes")
        (channels,) = _whole_numbers(fields, "elementnumberofchannels") or (1,)
        skips = _whole_numbers(fields, "headersize") + _whole_numbers(fields, "byte skip", "line skip")
    except ValueError:
        raise InputError(f"{path} is not a readable image; fetch it again, or remove the case.") from None
    if dimensions != len(shape) or min(shape) < 1 or min(skips, default=0) < -1 or max(skips, default=0) > MOST_SKIPPED:
        raise InputError(f"{path} has a header with sizes that cannot be; fetch it again, or mend its header.")
    if dimensions not in ((2, 3) if flat else (3,)) or channels != 1:
        raise InputError(
            f"{path} has {dimensions} dimensions and {channels} values a voxel; a case needs one 3D volume per "
            "channel: split the file."
        )


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
    if not fields.keys().isdisjoint(SKIPPING_FIELDS):
        return
    if ratio == DEFLATE_RATIO and _inflated_size(file, header_bytes if file == path else 0) != claimed:
        raise InputError(f"{path} has compressed voxels that are truncated or damaged; fetch it again.")
    if ratio == 1 and claimed < available:
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
                name = name.strip().lower()
                fields[SPELLINGS.get(name, name)] = value.strip()
            # Here MetaImage's header ends; NRRD's with an empty line.
            if not line or "elementdatafile" in fields:
                break
        return fields, file.tell()


def _whole_numbers(fields: dict[str, str], *names: str) -> list[int]:
    """Return the numbers of the first field of these names; none if there is no such field."""
    return [int(number) for number in next((fields[name] for name in names if name in fields), "").split()]


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


def _inflated_size(file: Path, start: int) -> int:
    """Return how many bytes of voxels a file holds; -1 if it is damaged, which ITK does not always notice."""
    stream, size = zlib.decompressobj(ZLIB_OR_GZIP), 0
    with file.open("rb") as voxels:
        voxels.seek(start)
        try:
            while not stream.eof and (block := voxels.read(BLOCK)):
                size += len(stream.decompress(block))
        except zlib.error:
            return -1
    return size if stream.eof else -1


def _ratio(fields: dict[str, str]) -> int:
    """Return how many bytes of voxels one byte in the file can stand for at most."""
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true":
        return DEFLATE_RATIO
    return 1 if encoding == "raw" and fields.get("binarydata", "true").lower() == "true" else TEXT_RATIO
