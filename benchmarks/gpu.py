"""All that has to be looked at on a GPU, in one command, made for ten minutes.

- what RL-U2Net and the paired trainers cost, under AMP, with and without ``torch.compile`` (``cost.py``,
  ``cost_paired.py``);
- how often CUDA itself says that a training step makes the host wait, beside what the tests count on a CPU;
- two ranks that share the GPU: equal after 20 steps, though one lacks a branch (a test, with gloo in NCCL's place);
- with ``RL_NNUNET_DATA``, both data sets of the benchmarks on held-out cases, on their small plans: MyoPS for equal
  time (by the ratio of steps on a CPU), MS-CMRSeg on equal patches. ``--full`` adds both on the usual plans, for which
  ten minutes are not enough.

Each part has a log in the folder and a time after which it is ended; what failed is named at the end. ``-device cpu
--small`` tries the script itself.

    RL_NNUNET_DATA=... python benchmarks/gpu.py -o FOLDER
    RL_NNUNET_DATA=... python benchmarks/gpu.py -o FOLDER --full
    python benchmarks/gpu.py -o FOLDER -device cpu --small
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).resolve().parent
WAITS = "called a synchronizing CUDA operation"
"""In the warnings of ``torch.cuda.set_sync_debug_mode``."""


NO_TABLES = ("{", "perform_everything_on_device", *"0123456789")
"""How lines of the logs begin that are not for people: JSON, a note of nnU-Net's, commands with the time."""


class Part(NamedTuple):
    """A command, and the seconds that it may take."""

    name: str
    words: Sequence[str]
    seconds: int


def parts(root: Path, device: str, small: bool, full: bool) -> Iterator[Part]:
    """Yield what is to be done, in order."""
    where = ("-device", device)

    def script(name: str, *words: str) -> list[str]:
        return [sys.executable, str(HERE / f"{name}.py"), *words]

    sizes = ((8,), (32,), ("small",)) if small else ((16, 32), (64, 96), ("small", "resenc"))
    base_features, patch, blocks = (list(map(str, values)) for values in sizes)
    yield Part(
        "cost of RL-U2Net",
        script(
            "cost", "-o", str(root / "hearts"), *where, "--pairs", "3" if small else "20",
            "--base_features", *base_features, "--patch", *patch, "--blocks", *blocks,
        ),
        240,
    )  # fmt: skip
    tumors = ("-o", str(root / "tumors"), "--data", "phantom", *where)
    sizes = ("--cases", "5", "--size", "24") if small else ()
    yield Part("phantom tumors", script("paired", *tumors, *sizes, "--rows"), 120)
    yield Part("cost of the paired trainers", script("cost_paired", *tumors, "--rounds", "1" if small else "9"), 180)
    yield Part("waits", script("gpu", "-o", str(root), *where, "--waits"), 60)
    test = HERE.parent / "tests" / "trainers" / "test_several_ranks.py"
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "slow", f"{test}::test_ranks_are_equal_after_20_steps"]
    yield Part("two ranks", pytest, 240 if device == "cuda" else 900)
    if "RL_NNUNET_DATA" not in os.environ:
        return
    for usual in (False, True) if full else (False,):
        steps = {"stock": 50, "ours": 50} if small else {"stock": 1500, "ours": 950}
        rows = (f"nnUNetTrainerModalityDropout:{steps['stock']}", f"IntraInterTrainerNoAgents:{steps['ours']}")
        options, seconds, suffix = (("--full",), 3600, "_full") if usual else ((), 300, "")
        myops = ("-o", str(root / f"myops{suffix}"), "--data", "myops", *where, *options)
        yield Part(f"MyoPS{suffix}", script("paired", *myops, "--seeds", "0", "--rows", *rows), seconds)
        contrasts = ("-o", str(root / f"mscmr{suffix}"), *where, *options, "--steps", "50" if small else "1300")
        yield Part(f"MS-CMRSeg{suffix}", script("mscmr", *contrasts), seconds)


def count_waits(root: Path, device: str) -> None:
    """Print how often a training step makes the host wait, by CUDA's own word; on a CPU it never does."""
    from contestant import Contestant
    from cost import Size, UnpairedContestant
    from cost_paired import TRAINERS, PairedContestant
    from paired import DATA
    from workflow import Workplace

    def waits(contestant: Contestant) -> int:
        contestant.warm_up()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            contestant.train()
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        return sum(WAITS in str(warning.message) for warning in caught)

    hearts, tumors = (Workplace(root / folder, device) for folder in ("hearts", "tumors"))
    os.environ.update(hearts.variables)
    unpaired = UnpairedContestant(hearts, Size(8, 32, "small"), 2, ours=True)
    print(f"RLXAlignTrainer, unpaired: {waits(unpaired)}")
    os.environ.update(tumors.variables)
    for name in TRAINERS:
        print(f"{name}: {waits(PairedContestant(tumors, DATA['phantom'], name))}", flush=True)


def run(part: Part, root: Path, device: str) -> str:
    """Run a part; return what became of it."""
    start = time.monotonic()
    log = root / f"{part.name.replace(' ', '_')}.log"
    environment = {**os.environ, "RL_NNUNET_TEST_DEVICE": "cuda:0" if device == "cuda" else "cpu"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            part.words, cwd=HERE, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = process.wait(part.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the trainings that it has started
            code = f"ended after {part.seconds} s"
    result = "done" if code == 0 else f"FAILED ({code})"
    print(f"{part.name}: {result}, {time.monotonic() - start:.0f} s, {log}", flush=True)
    if code == 0:
        said = [line for line in log.read_text().splitlines() if not line.startswith(NO_TABLES)]
        print("\n".join(said[-25:]), flush=True)
    return result


def main() -> None:
    """Run all parts, and name those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="smallest sizes and schedules: tries the script")
    parser.add_argument("--full", action="store_true", help="real data on the usual plans, too; up to two hours more")
    parser.add_argument("--waits", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.output.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if arguments.waits:
        count_waits(root, arguments.device)
        return
    todo = parts(root, arguments.device, arguments.small, arguments.full)
    results = {part.name: run(part, root, arguments.device) for part in todo}
    failed = [name for name, result in results.items() if result != "done"]
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}; see their logs in {root}.")


if __name__ == "__main__":
    main()
