"""Read damaged scans as the commands do, and say of each what became of it; the test of fuzzing runs it by itself.

It prints a line a scan, ``name;seconds;outcome``, and at last the most memory that the process had, in bytes. The
outcome is "refused", "accepted", or what is wrong.
"""

import contextlib
import io
import resource
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from rl_nnunet.errors import InputError
from rl_nnunet.grids import read_grid
from rl_nnunet.prediction.scan_reader import ScanReader


def outcome_of(path, volume):
    """Return what became of a scan, which has the voxels of `volume` unless its own header says otherwise."""
    reader = ScanReader(SimpleITKIO, None)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            grid = read_grid(path)
            image, properties = reader.read_images([path])
    except InputError as error:
        sentence = str(error)
        sound = "\n" not in sentence and str(path) in sentence and sentence.endswith(".")
        return "refused" if sound else f"refused in {sentence!r}"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    if not (np.isfinite(image).all() and np.isfinite(properties["spacing"]).all() and min(properties["spacing"]) > 0):
        return "accepted, but not finite"
    if image.shape[:0:-1] != tuple(grid.size) + (1,) * (3 - len(grid.size)):
        return f"accepted, but as {image.shape} on the grid {grid.size}"
    expected = expected_voxels(path, volume)
    return "accepted" if agree(image[0], expected) else "accepted, but with other voxels"


def expected_voxels(path, volume):
    if path.is_dir() or path.name.startswith("cut"):
        return volume
    values = np.asanyarray(nibabel.load(path).dataobj)
    return values.reshape((*values.shape, 1)[:3], order="F").T  # further dimensions have one entry


def agree(image, expected):
    """Tell whether voxels are equal; of slices, one is damaged."""
    if image.shape != expected.shape:
        return False
    with np.errstate(all="ignore"):
        close = np.isclose(image, np.nan_to_num(expected, posinf=0, neginf=0), rtol=1e-4, atol=1e-3)
    return close.reshape(len(close), -1).all(1).sum() >= len(close) - (len(close) == DICOM_SLICES)


DICOM_SLICES = 5

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    voxels = np.load(folder / "volume.npy")
    slices = np.load(folder / "slices.npy")
    for scan in sorted((folder / "scans").iterdir()):
        start = time.monotonic()
        outcome = outcome_of(scan, slices if scan.is_dir() else voxels)
        print(scan.name, f"{time.monotonic() - start:.2f}", outcome, sep=";", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
