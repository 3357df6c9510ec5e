"""Damaged scans, as commands read them: each is read as it is or refused in a sentence, in time, in little memory."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from damaged_scans import write_mutants

READ = Path(__file__).with_name("read_damaged.py")
HEADERS, CUTS, SERIES = 500, 200, 60
MOST_SECONDS, MOST_MEMORY = 10, 1 << 30
DICOM_TAGS = {
    "rows": (0x28, 0x10),
    "columns": (0x28, 0x11),
    "bits": (0x28, 0x100),
    "samples": (0x28, 0x02),
    "photometric": (0x28, 0x04),
    "pixel spacing": (0x28, 0x30),
    "position": (0x20, 0x32),
    "orientation": (0x20, 0x37),
    "series": (0x20, 0x0E),
    "pixels": (0x7FE0, 0x10),
    "syntax": (0x02, 0x10),
}


def write_cuts(folder, content, count, rng):
    for index in range(count):
        ending, whole = ((".nii", content), (".nii.gz", gzip.compress(content, 1)))[index % 2]
        (folder / f"cut_{index}{ending}").write_bytes(whole[: rng.integers(len(whole))])


def damaged_slice(content, rng):
    """Return a DICOM file that is cut, or of which a byte, a value or a whole tag is another one."""
    content = bytearray(content)
    tags = list(DICOM_TAGS.values())
    kind, tag = rng.integers(4), struct.pack("<HH", *tags[rng.integers(len(tags))])
    where = content.find(tag)
    if kind == 0:
        return bytes(content[: rng.integers(len(content))])
    if kind == 1 or where < 0:
        content[rng.integers(128, content.find(struct.pack("<HH", 0x7FE0, 0x10)))] = rng.integers(256)
    elif kind == 2:
        content[where : where + 2] = b"\x09\x00"  # a private tag: the one that was there is missing
    else:
        # Behind tag, type and length, which have 8 bytes.
        content[where + 8 : where + 10] = (b"\xff\xff", b"\0\0", b"-9", b"1e", b"na")[rng.integers(5)]
    return bytes(content)


def write_damaged_series(folder, sound, count, rng):
    slices = sorted(sound.iterdir())
    for index in range(count):
        series = folder / f"series_{index}"
        series.mkdir()
        damaged = rng.integers(len(slices))
        for number, file in enumerate(slices):
            content = file.read_bytes()
            (series / file.name).write_bytes(damaged_slice(content, rng) if number == damaged else content)


@pytest.fixture
def damaged(tmp_path, write_dicom):
    """A folder of scans: mutated headers, truncations, and series of which a slice is damaged; all by one seed."""
    rng = np.random.default_rng(20261127)
    scans = tmp_path / "scans"
    scans.mkdir()
    sound = write_mutants(scans, HEADERS, seed=20261127)[0]
    np.save(tmp_path / "volume.npy", sitk.GetArrayFromImage(sitk.ReadImage(sound)))
    write_cuts(scans, sound.read_bytes(), CUTS, rng)
    slices = rng.integers(-500, 500, (5, 6, 8))
    np.save(tmp_path / "slices.npy", slices)
    write_dicom(scans / "sound_series", slices)
    write_damaged_series(scans, scans / "sound_series", SERIES, rng)
    return tmp_path


@pytest.mark.slow
def test_every_damaged_scan_is_read_as_it_is_or_refused(damaged):
    process = subprocess.run(
        [sys.executable, READ, damaged],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    *lines, memory = process.stdout.splitlines() or [""]
    assert process.returncode == 0, (lines[-1:], process.stderr)
    results = {name: (float(seconds), outcome) for name, seconds, outcome in (line.split(";", 2) for line in lines)}
    assert len(results) == HEADERS + CUTS + SERIES + 2
    wrong = {name: outcome for name, (_, outcome) in results.items() if outcome not in ("accepted", "refused")}
    assert not wrong
    assert results["sound.nii"][1] == results["sound_series"][1] == "accepted"
    # A cut takes something away, always.
    assert {outcome for name, (_, outcome) in results.items() if name.startswith("cut")} == {"refused"}
    assert max(seconds for seconds, _ in results.values()) < MOST_SECONDS
    assert int(memory) < MOST_MEMORY
