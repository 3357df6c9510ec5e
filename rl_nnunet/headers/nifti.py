"""Reading NIfTI-1 files: every field of the header is checked before a library relies on it, and every voxel is there.

The C library in ITK trusts the header: it fills missing voxels with zeros, takes NaN for a position, and replaces what
it does not understand.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
from nibabel import imageglobals
from nibabel.affines import apply_affine
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from rl_nnunet.errors import InputError
from rl_nnunet.headers.claimed_size import DEFLATE_RATIO, check_claimed_size, format_shape, too_long

ENDINGS = (".nii", ".nii.gz")
GZIP_START = b"\x1f\x8b"
HEADER_BYTES, NIFTI2_HEADER_BYTES = 348, 540
# The header, and four bytes that tell whether extensions follow.
FIRST_OFFSET = HEADER_BYTES + 4
MAGIC, PAIR_MAGIC = b"n+1\0", b"ni1\0"
LARGEST_FORM_CODE = 5
# By how many voxel edges two descriptions of one grid may move a corner of the volume: less is rounding.
FORM_TOLERANCE = 1.0
# Far more than extensions take: all of them are read at once; voxels that are only counted, in blocks.
LARGEST_OFFSET, BLOCK = 1 << 28, 1 << 20
# The imaginary part of a unit quaternion is no longer than 1; what is more than rounding is no rotation.
QUATERNION_TOLERANCE = 1e-3
# No unit of a scan needs scales beyond these, while float32 loses voxels there.
SMALLEST_SCALE, LARGEST_SCALE = 1e-12, 1e12

# nibabel prints remarks on headers; those that matter become a sentence.
imageglobals.logger.setLevel(logging.CRITICAL)


def is_nifti(path: Path) -> bool:
    """Tell whether a file is called like NIfTI."""
    return path.name.lower().endswith(ENDINGS)


def read_header(path: Path, *, flat: bool = False) -> nibabel.Nifti1Header:
    """Read a header, and check all of it that voxels and geometry depend on.

    Parameters
    ----------
    path : Path
        The file.
    flat : bool
        Whether it may hold a 2D image.

    Raises
    ------
    InputError
        If a field is impossible or contradicts another one, or the file cannot hold the voxels.
    """
    header = _parse(path, _read(path, HEADER_BYTES))
    # What is not finite is found, and needs no remark of numpy's.
    with np.errstate(all="ignore"):
        _check(path, header, flat=flat)
    return header


def _check(path: Path, header: nibabel.Nifti1Header, *, flat: bool) -> None:
    defect = _type_defect(header) or _shape_defect(header, flat=flat) or _offset_defect(header) or _scale_defect(header)
    if not defect:
        ratio = DEFLATE_RATIO if _is_called_compressed(path) else 1
        check_claimed_size(path, shape_of(header), _end(header), path.stat().st_size, ratio)
        defect = _code_defect(header) or _form_defect(header) or _contradiction(header)
    if defect:
        raise InputError(f"{path} {defect}")


def read_voxels(path: Path, header: nibabel.Nifti1Header) -> np.ndarray:
    """Read the voxels, rescaled where the header says so, shape (z, y, x).

    Raises
    ------
    InputError
        If the file ends before the last voxel, or goes on after it.
    """
    content = _read_to_the_end(path, header)
    with np.errstate(over="ignore"):
        values = np.asanyarray(ArrayProxy(io.BytesIO(content), header))
    values = values.reshape(shape_of(header), order="F").T
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def check_complete(path: Path) -> None:
    """Raise `InputError` if a file does not hold the voxels that its header promises, all of them and no more.

    They are counted, not kept: compressed bytes can stand for a thousand times as many. Images may be 2D, too.
    """
    header = read_header(path, flat=True)
    with _complaining(path), _open(path) as file:
        start = file.read(_offset(header))
        count = len(start)
        while count <= _end(header) and (block := file.read(BLOCK)):
            count += len(block)
    _check_content(path, header, start, count)


def states_orientation(header: nibabel.Nifti1Header) -> bool:
    """Tell whether a header says how the axes lie in the patient."""
    return bool(header["qform_code"] or header["sform_code"])


def _read_to_the_end(path: Path, header: nibabel.Nifti1Header) -> bytes:
    # One byte more than there should be: at the end, gzip compares its checksum.
    content = _read(path, _end(header) + 1)
    _check_content(path, header, content[: _offset(header)], len(content))
    return content


def _check_content(path: Path, header: nibabel.Nifti1Header, start: bytes, count: int) -> None:
    """Check the number of bytes, and those before the voxels."""
    if count < _end(header):
        raise _truncated(path)
    if count > _end(header):
        raise too_long(path, shape_of(header))
    if not _has_sound_extensions(start[HEADER_BYTES:], header.endianness):
        raise InputError(f"{path} has header extensions of an impossible length; save it anew without them.")


def _read(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed."""
    with _complaining(path), _open(path) as file:
        return file.read(count)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if _is_compressed(path) else path.open("rb")


@contextlib.contextmanager
def _complaining(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _truncated(path) from None


def _truncated(path: Path) -> InputError:
    return InputError(f"{path} is truncated or damaged; fetch it again, or remove the case.")


def _is_called_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_START)) == GZIP_START


def _parse(path: Path, block: bytes) -> nibabel.Nifti1Header:
    """Return the header, in the byte order in which its first field makes sense."""
    lengths = {order: int.from_bytes(block[:4], name) for order, name in (("<", "little"), (">", "big"))}
    if NIFTI2_HEADER_BYTES in lengths.values():
        raise InputError(f"{path} is a NIfTI-2 file, which neither ITK nor nnU-Net reads; save it as NIfTI-1.")
    order = next((order for order, length in lengths.items() if length == HEADER_BYTES), None)
    if order is None or len(block) < HEADER_BYTES:
        raise InputError(f"{path} is not a readable image; fetch it again, or remove the case.")
    if _is_called_compressed(path) != _is_compressed(path):
        if _is_called_compressed(path):
            raise InputError(f"{path} is not compressed, but its name says so; rename it to {path.stem}.")
        raise InputError(f"{path} is compressed, but its name does not say so; rename it to {path.name}.gz.")
    magic = block[-len(MAGIC) :]
    if magic == PAIR_MAGIC:
        raise InputError(f"{path} is the header of a pair (.hdr and .img), without voxels; save the pair as one .nii.")
    if magic != MAGIC:
        raise InputError(f"{path} is not marked as NIfTI (an ANALYZE file?); save it as NIfTI, with its orientation.")
    return nibabel.Nifti1Header(block, endianness=order, check=False)


def shape_of(header: nibabel.Nifti1Header) -> tuple[int, ...]:
    """Return the size of the volume, in which an image is one slice."""
    return tuple(int(extent) for extent in np.where(_is_stated(header), header["dim"][1:4], 1))


def edges_of(header: nibabel.Nifti1Header) -> np.ndarray:
    """Return the edges of a voxel in mm; 1 across an image."""
    return np.where(_is_stated(header), header["pixdim"][1:4], 1.0).astype(float)


def _is_stated(header: nibabel.Nifti1Header) -> np.ndarray:
    """Tell which of three axes the header describes; what it says of others means nothing."""
    return np.arange(3) < header["dim"][0]


def _offset(header: nibabel.Nifti1Header) -> int:
    return int(header["vox_offset"])


def _end(header: nibabel.Nifti1Header) -> int:
    """Return the number of bytes up to the last voxel."""
    return _offset(header) + math.prod(shape_of(header)) * header.get_data_dtype().itemsize


def _type_defect(header: nibabel.Nifti1Header) -> str:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        return f"has the data type {code}, which does not exist; fetch it again, or mend its header."
    if dtype.kind == "c":
        return "holds complex numbers; save their magnitude."
    if dtype.fields:
        return "holds colors; save gray values."
    if dtype.kind not in "iuf" or dtype.itemsize not in (1, 2, 4, 8):
        return f"has the data type {code}, which ITK does not read; save it in 32-bit floats."
    if bits != 8 * dtype.itemsize:
        return f"contradicts itself: {dtype.name} voxels of {bits} bits; fetch it again, or mend its header."
    return ""


def _shape_defect(header: nibabel.Nifti1Header, *, flat: bool) -> str:
    dimensions = int(header["dim"][0])
    extents = [int(extent) for extent in header["dim"][1 : 1 + max(dimensions, 0)]]
    if not 1 <= dimensions <= 7 or min(extents) < 1:
        return f"has {dimensions} dimensions of the size {format_shape(extents)}, which cannot be; mend its header."
    # Dimensions of one entry are common: a series of one volume.
    if dimensions < (2 if flat else 3) or max(extents[3:], default=1) > 1:
        return (
            f"has the size {format_shape(extents)}, but a case needs one 3D volume per channel: split the file, "
            "or stack its slices."
        )
    return ""


def _offset_defect(header: nibabel.Nifti1Header) -> str:
    offset = float(header["vox_offset"])
    if not offset.is_integer() or offset < FIRST_OFFSET or offset > LARGEST_OFFSET:
        return (
            f"says that its voxels start at byte {offset:g}, which cannot be; fetch it again, or mend its vox_offset."
        )
    return ""


def _scale_defect(header: nibabel.Nifti1Header) -> str:
    """Return what is wrong with the rescaling; a slope of 0 or NaN stands for none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return ""
    if SMALLEST_SCALE <= abs(slope) <= LARGEST_SCALE and abs(intercept) <= LARGEST_SCALE:
        return ""
    return f"rescales its values by {slope:g} and {intercept:g}, which cannot be; mend its scl_slope and scl_inter."


def _has_sound_extensions(block: bytes, endianness: str) -> bool:
    """Tell whether each extension leads to the next one; readers would go round and round otherwise.

    Parameters
    ----------
    block : bytes
        What lies between header and voxels.
    endianness : {"<", ">"}
        Byte order.
    """
    start = FIRST_OFFSET - HEADER_BYTES
    if not block[0]:
        return True
    while any(block[start:]):  # zeros pad
        length = int.from_bytes(block[start : start + 4], "little" if endianness == "<" else "big", signed=True)
        # Length and code take 8 bytes, and lengths are multiples of 16.
        if length < 16 or start + length > len(block):
            return False
        start += length
    return True


def _code_defect(header: nibabel.Nifti1Header) -> str:
    for name in ("qform_code", "sform_code"):
        if not 0 <= header[name] <= LARGEST_FORM_CODE:
            return f"has the {name} {header[name]}, which does not exist; mend its header."
    return ""


def _form_defect(header: nibabel.Nifti1Header) -> str:
    """Return what is wrong with voxel edges, qform and sform, each by itself."""
    edges, rotation = edges_of(header), _quaternion(header)
    if not (np.isfinite(edges).all() and (edges > 0).all()):
        return f"has voxels of {_format(edges)} mm, which cannot be; mend its pixdim."
    if header["sform_code"] and not np.isfinite(header.get_sform()).all():
        return "has an sform of numbers that are not finite; mend its header."
    if header["qform_code"]:
        offsets = [header[f"qoffset_{axis}"] for axis in "xyz"]
        if not np.isfinite([*rotation, *offsets]).all() or np.linalg.norm(rotation) > 1 + QUATERNION_TOLERANCE:
            return "has a qform that is no rotation; mend its header."
        if header["pixdim"][0] not in (-1, 0, 1):
            return f"has the qform factor {header['pixdim'][0]:g}, which must be 1 or -1; mend its pixdim."
    return ""


def _contradiction(header: nibabel.Nifti1Header) -> str:
    """Return how the descriptions of the grid contradict each other; which one a program believes differs."""
    if not header["sform_code"]:
        return ""
    # Different codes name different spaces, such as the scanner's and a template's: that is no contradiction.
    if header["qform_code"] not in (0, header["sform_code"]):
        return ""
    edges, sform = edges_of(header), header.get_sform()
    sform_edges = np.linalg.norm(sform[:3, :3], axis=0)
    if _displacement(np.diag([*sform_edges, 1]), np.diag([*edges, 1]), header) > FORM_TOLERANCE * edges.min():
        return (
            f"contradicts itself: voxels of {_format(edges)} mm by its pixdim, of {_format(sform_edges)} mm by its "
            "sform; mend its header."
        )
    if header["qform_code"] and _displacement(sform, _qform(header), header) > FORM_TOLERANCE * edges.min():
        return "contradicts itself: qform and sform differ; keep one, and set the code of the other one to 0."
    return ""


def _displacement(one: np.ndarray, other: np.ndarray, header: nibabel.Nifti1Header) -> float:
    """Return by how much the corners of the volume lie apart at most under two affine maps."""
    corners = np.stack(np.meshgrid(*((0, extent - 1) for extent in shape_of(header))), -1).reshape(-1, 3)
    return float(np.linalg.norm(apply_affine(one, corners) - apply_affine(other, corners), axis=1).max())


def _quaternion(header: nibabel.Nifti1Header) -> np.ndarray:
    """Return the imaginary part of the quaternion, which fixes the real one."""
    return np.array([header[f"quatern_{axis}"] for axis in "bcd"], float)


def _qform(header: nibabel.Nifti1Header) -> np.ndarray:
    """Return the affine map of the qform, as readers take it: rounding mended, and 0 for a factor of 1."""
    mended = header.copy()
    rotation = _quaternion(header)
    rotation /= max(1.0, np.linalg.norm(rotation) * (1 + np.finfo(np.float32).eps))
    for axis, value in zip("bcd", rotation, strict=True):
        mended[f"quatern_{axis}"] = value
    mended["pixdim"][0] = mended["pixdim"][0] or 1
    return mended.get_qform()


def _format(lengths: np.ndarray) -> str:
    return "x".join(f"{length:.4g}" for length in lengths)
