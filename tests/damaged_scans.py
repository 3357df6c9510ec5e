"""NIfTI files with damaged headers."""

import gzip
import struct

import numpy as np
import SimpleITK as sitk

SHAPE = (9, 8, 7)
# Position and type of the fields that hold more than a byte.
FIELDS = (
    [(position, "h") for position in (*range(40, 56, 2), 68, 70, 72, 74, 252, 254)]
    + [(position, "f") for position in (*range(76, 120, 4), *range(256, 328, 4))]
    + [(0, "i"), (344, "i"), (348, "i"), (352, "i"), (356, "i")]
)
EXTREMES = {
    "h": (0, 1, -1, 2, 3, 7, 16, 255, 256, 2000, 32767, -32768),
    "i": (0, 1, -1, 15, 16, 348, 540, 1 << 30, (1 << 31) - 1, -(1 << 31)),
    "f": (0, 1, -1, 0.5, 352, 368, 1e30, -1e30, 1e-30, 1e10, float("nan"), float("inf"), float("-inf")),
}


def mutated(content, rng):
    """Return a file of which one to three bytes or fields of the header are other ones."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.5:
            content[rng.integers(368)] = rng.integers(256)
        else:
            position, kind = FIELDS[rng.integers(len(FIELDS))]
            struct.pack_into(f"<{kind}", content, position, EXTREMES[kind][rng.integers(len(EXTREMES[kind]))])
    return bytes(content)


def write_mutants(folder, count, seed):
    """Write files with damaged headers, in turn compressed and not; with an extension, for its chain, too."""
    rng = np.random.default_rng(seed)
    path = folder / "sound.nii"
    sitk.WriteImage(sitk.GetImageFromArray(rng.integers(-100, 1000, SHAPE[::-1]).astype(np.int16)), str(path))
    plain = path.read_bytes()
    extended = bytearray(plain[:348] + b"\1\0\0\0" + struct.pack("<iiq", 16, 6, 0) + plain[352:])
    struct.pack_into("<f", extended, 108, 368.0)
    paths = []
    for index in range(count):
        content = mutated((plain, extended)[index % 2], rng)
        paths.append(folder / f"{index}.nii{'.gz' if index % 4 < 2 else ''}")
        paths[-1].write_bytes(gzip.compress(content, 1) if index % 4 < 2 else content)
    return [path, *paths]
