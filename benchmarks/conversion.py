"""Time and peak memory of converting BraTS look-alikes: the command with its worker processes, as a user runs it.

python benchmarks/conversion.py -o FOLDER --cases 100 --size 240 -np 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from process_memory import measured
from workflow import Workplace


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
        "rl_nnunet_convert_brats", "-i", str(phantom), "-d", "543", "-np", arguments.processes, "--overwrite",
    ]  # fmt: skip
    seconds, peak = measured(place, command)
    print(f"{arguments.cases} cases, {arguments.processes} processes: {seconds:.0f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
