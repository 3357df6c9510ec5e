"""Folds side by side on the CPU, and one after the other.

Two folds of phantom hearts are trained by `rl_nnunet_train_folds`: on `cpu` with one core, on `cpu` with all cores, and
on `cpu cpu` with half of them each. The first and the last tell how the queue scales on two cores; the second is what a
user would do without it. The figures mean something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rl_nnunet.supervised import CPU_COUNT_VARIABLE

TRAINER = "RLXAlignTrainerNoXAlign_1epoch"


def main() -> None:
    """Prepare the data, train twice, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, required=True, help="folder to work in")
    parser.add_argument("--trainer", default=TRAINER)
    args = parser.parse_args()
    root = args.o.resolve()
    phantom = root / "phantom"
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = {**os.environ, "nnUNet_n_proc_DA": "2", "RL_NNUNET_SEED": "0"}
    environment |= {name: str(root / name) for name in names}
    run(environment, "rl_nnunet_make_phantom", "-o", phantom, "--cases", 5, "--size", 24, "--overwrite")
    run(environment, "rl_nnunet_convert_mmwhs", "-i", phantom, "-d", 501, "--overwrite")
    run(environment, "rl_nnunet_plan_and_preprocess", "-d", 501, "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres")
    environment["nnUNet_n_proc_DA"] = "0"
    model = ("-d", 501, "-c", "3d_fullres", "-tr", args.trainer, "-p", "RLXAlignSmallPlans", "-f", 0, 1)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    one_core = {CPU_COUNT_VARIABLE: "1", "OMP_NUM_THREADS": "1"}
    for cores, devices in ((one_core, ("cpu",)), ({}, ("cpu",)), ({}, ("cpu", "cpu"))):
        start = time.monotonic()
        run(environment | cores, "rl_nnunet_train_folds", *model, "--overwrite", "--devices", *devices)
        print(
            f"{' '.join(devices)}, {'one core' if cores else 'all cores'}: {time.monotonic() - start:.0f} s", flush=True
        )


def run(environment: dict[str, str], name: str, *words: object) -> None:
    """Run a command of this environment."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, words)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
