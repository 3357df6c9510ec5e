"""Time and peak memory of converting BraTS look-alikes: the command with its worker processes, as a user runs it.

python benchmarks/conversion.py -o FOLDER --cases 100 --size 240 -np 2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from workflow import Workplace


def resident_bytes(root: int) -> int:
    """Return the memory of a process and its descendants that they do not share with others (PSS); Linux only."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    total, family = 0, [root]
    while family:
        process = family.pop()
        family += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    """Make the cases, convert them and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--size", type=int, default=240, help="voxels along the longest axis; BraTS has 240")
    parser.add_argument("--year", default="2021")
    parser.add_argument("-np", dest="processes", default="2")
    arguments = parser.parse_args()
    place = Workplace(arguments.output, "cpu")
    phantom = place.root / "phantom"
    if not phantom.is_dir():
        place.command(
            "rl_nnunet_make_phantom", "brats", "-o", str(phantom), "--cases", str(arguments.cases), "--size",
            str(arguments.size), "--year", arguments.year, "-np", arguments.processes,
        )  # fmt: skip
    command = [
        str(Path(sys.executable).parent / "rl_nnunet_convert_brats"), "-i", str(phantom), "-d", "543", "-np",
        arguments.processes, "--overwrite",
    ]  # fmt: skip
    start, peak = time.perf_counter(), 0
    with (
        open(place.root / "log.txt", "a") as log,
        subprocess.Popen(command, env={**os.environ, **place.variables}, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"The conversion failed; see {place.root / 'log.txt'}.")
    seconds = time.perf_counter() - start
    print(f"{arguments.cases} cases, {arguments.processes} processes: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
