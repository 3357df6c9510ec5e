"""Whatever a header says, a scan is read as it is, or refused in one sentence: in time, and in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from damaged_scans import SHAPE, write_mutants

from rl_nnunet import scans

MOST_MEMORY = 2 << 30  # of addresses, of which the libraries take the greater part of a GiB
MOST_SECONDS = 5
WORDS = b"0 -1 1e30 nan inf 99999999999 2147483648 3 x 17000 %d LOCAL LIST True /dev/zero".split()
# Runs in a process of its own, which a file may end or stop.
READ_ALL = """
import resource, sys, time
from pathlib import Path
import numpy as np
from rl_nnunet import scans
from rl_nnunet.errors import InputError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
for path in map(Path, sys.argv[2:]):
    start = time.monotonic()
    try:
        image = scans.read_image(path)
        grid = np.concatenate([image.GetSpacing(), image.GetOrigin(), image.GetDirection()])
        bounded = np.isfinite(grid).all() and np.abs(grid).max() <= 10_000 and min(image.GetSpacing()) >= 0.001
        right = np.allclose(np.reshape(image.GetDirection(), (3, 3)) @ np.reshape(image.GetDirection(), (3, 3)).T,
            np.eye(3), atol=1e-2)
        outcome = "accepted" if bounded and right else f"accepted with the grid {grid.tolist()}"
    except InputError:
        outcome = "refused"
    print(path.name, f"{time.monotonic() - start:.2f}", outcome, sep=";", flush=True)
"""


def mutated_text(header, rng):
    """Return a header in text of which one to three bytes or words are other ones."""
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.5:
            header = bytearray(header)
            header[rng.integers(len(header))] = rng.integers(256)
        else:
            words = bytes(header).split(b" ")
            words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
            header = b" ".join(words)
    return bytes(header)


def write_text_mutants(folder, count, seed):
    """Write MetaImage and NRRD files with damaged headers, in turn compressed and not."""
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(-100, 1000, SHAPE[::-1]).astype(np.int16))
    paths = []
    for index in range(count):
        ending, end = (("mha", b"LOCAL"), ("nrrd", b"\n\n"))[index % 2]
        paths.append(folder / (f"{index}.{ending}" if index else f"sound.{ending}"))
        sitk.WriteImage(image, str(paths[-1]), index % 4 < 2)
        if index:
            header, end, voxels = paths[-1].read_bytes().partition(end)
            paths[-1].write_bytes(mutated_text(header + end, rng) + voxels)
    return paths


@pytest.mark.parametrize("write", [write_mutants, write_text_mutants])
@pytest.mark.parametrize("count", [150, pytest.param(2400, marks=pytest.mark.slow)])
def test_damaged_headers(write, count, tmp_path):
    paths = write(tmp_path, count, seed=count)
    result = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(MOST_MEMORY), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60 + count,
    )
    lines = [line.split(";") for line in result.stdout.splitlines()]
    assert result.returncode == 0, (len(lines), result.stderr)
    assert result.stderr == ""
    outcomes = {name: outcome for name, _, outcome in lines}
    assert list(outcomes) == [path.name for path in paths]
    assert set(outcomes.values()) == {"accepted", "refused"}
    assert outcomes[paths[0].name] == "accepted"
    assert max(float(seconds) for _, seconds, _ in lines) < MOST_SECONDS


@pytest.mark.slow
def test_real_scans_are_accepted():
    data = os.environ.get("RL_NNUNET_DATA")
    if data is None:
        pytest.skip("no real data: set RL_NNUNET_DATA to a folder that holds scans")
    paths = sorted(Path(data).rglob("*.nii.gz"))
    assert paths
    for path in paths:
        scans.read_volume(path)
        assert scans.states_orientation(path)
