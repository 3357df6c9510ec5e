"""What rl_nnunet_predict costs: time against nnUNetv2_predict on the same files, memory of a pair and of many scans.

And what it gains by ``--devices``: the same scans in one process on all cores, and in two on half of them each.

Phantom hearts, a network of two branches that is hardly trained: time and memory do not depend on its weights. Both
commands take turns, without mirroring; their segmentations are compared, byte for byte. Memory is that of one process,
which preprocesses, predicts and exports one scan after another.

    python benchmarks/prediction.py -o FOLDER --size 96 --rounds 5
    python benchmarks/prediction.py -o FOLDER --size 96 --rounds 3 --only devices
    python benchmarks/prediction.py -o FOLDER --size 256 --only memory
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from process_memory import measured
from workflow import Workplace

DATASET, PLANS, CONFIGURATION = "Dataset561_Speed", "RLXAlignSmallPlans", "3d_fullres"
TRAINER = "RLXAlignTrainer"
STEPS = 2
WORKERS = ("-npp", "1", "-nps", "1")
COPIES = 4
"""Of each test scan, where many are predicted."""


def prepare(place: Workplace, size: int) -> Path:
    """Make phantoms, convert, plan and train a little; return the model's folder."""
    phantom = place.root / "phantom"
    place.command(
        "rl_nnunet_make_phantom", "-o", str(phantom), "--cases", "4", "--test_cases", "2", "--size", str(size),
        "--paired", "-np", "1", "--overwrite",
    )  # fmt: skip
    place.command(
        "rl_nnunet_convert_mmwhs", "-i", str(phantom), "-d", DATASET[7:10], "-n", DATASET[11:], "-np", "1",
        "--overwrite",
    )  # fmt: skip
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", DATASET[7:10], "-pl", "RLXAlignSmallPlanner", "-c", CONFIGURATION,
        "-npfp", "1", "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip
    return place.train(DATASET, TRAINER, PLANS, STEPS, 0)


def predict(
    place: Workplace, command: str, model: Path, images: Path, target: Path, *options: str, devices: Sequence[str] = ()
) -> tuple[float, int]:
    """Predict a folder; return the seconds and the peak of the memory in bytes."""
    shutil.rmtree(target, ignore_errors=True)
    where = ["-d", DATASET[7:10], "-tr", f"{TRAINER}Benchmark", "-p", PLANS, "-c", CONFIGURATION, "-f", "all"]
    place.variables["nnUNet_results"] = str(model.parents[1])
    on = ["--devices", *devices] if devices else ["-device", place.device]
    words = [command, "-i", str(images), "-o", str(target), *where, *on, "--disable_tta"]
    return measured(place, [*words, *options])


def compare_times(place: Workplace, model: Path, rounds: int) -> None:
    """Print the ratio of the times of both commands on the same files, and whether their segmentations are equal."""
    images = place.path("nnUNet_raw", DATASET, "imagesTs")
    seconds: dict[str, list[float]] = {"nnUNetv2_predict": [], "rl_nnunet_predict": []}
    for number in range(rounds):
        for command in sorted(seconds, reverse=bool(number % 2)):
            seconds[command].append(predict(place, command, model, images, place.root / command, *WORKERS)[0])
    ours, theirs = (place.root / command for command in sorted(seconds, reverse=True))
    files = [file.name for file in theirs.glob("*.nii.gz")]
    _, different, missing = filecmp.cmpfiles(ours, theirs, files, shallow=False)
    for command, values in seconds.items():
        print(f"{command}: median {statistics.median(values):.1f} s, {min(values):.1f} to {max(values):.1f}")
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"ratio, median of {rounds} rounds: {statistics.median(ratios):.3f}")
    print(f"{len(files)} segmentations, {len(different) + len(missing)} of them different")


def compare_devices(place: Workplace, model: Path, rounds: int) -> None:
    """Print how many scans an hour one process predicts, and two, and whether the segmentations are equal."""
    raw, images = place.path("nnUNet_raw", DATASET, "imagesTs"), place.root / "many"
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir()
    for file in raw.glob("*_000[01].nii.gz"):
        for copy in range(COPIES):
            shutil.copyfile(file, images / f"copy{copy}_{file.name}")
    choices = {"one process": (), "two processes": (place.device,) * 2}
    hours: dict[str, list[float]] = {name: [] for name in choices}
    for _ in range(rounds):
        for name, devices in choices.items():
            target = place.root / name.replace(" ", "_")
            seconds, _ = predict(place, "rl_nnunet_predict", model, images, target, *WORKERS, devices=devices)
            hours[name].append(seconds / 3600)
    folders = [place.root / name.replace(" ", "_") for name in choices]
    files = [file.name for file in folders[0].glob("*.nii.gz")]
    _, different, missing = filecmp.cmpfiles(*folders, files, shallow=False)
    for name, values in hours.items():
        print(f"{name}: {len(files) / statistics.median(values):.0f} scans an hour ({len(files)} scans)")
    print(f"{len(different) + len(missing)} segmentations differ")


def memory_of_pairs(place: Workplace, model: Path) -> None:
    """Print the peak of the memory: two scans by the stock command, and by ours as a pair; 3 pairs and 10."""
    raw = place.path("nnUNet_raw", DATASET, "imagesTs")
    alone, options = place.root / "two_scans", ("-npp", "0", "-nps", "0", "-step_size", "1")
    scans = {0: next(raw.glob("ct_*_0000.nii.gz")), 1: next(raw.glob("mr_*_0001.nii.gz"))}
    for folder in (alone, *(place.root / f"{count}_pairs" for count in (1, 3, 10))):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for channel, scan in scans.items():
        for file in raw.glob(f"{scan.name[: -len('_0000.nii.gz')]}_*.nii.gz"):
            shutil.copyfile(file, alone / file.name)
        for count in (1, 3, 10):
            for pair in range(count):
                shutil.copyfile(scan, place.root / f"{count}_pairs" / f"pair{pair}_000{channel}.nii.gz")
    _, peak = predict(place, "nnUNetv2_predict", model, alone, place.root / "alone", *options)
    print(f"nnUNetv2_predict, two scans: {peak / 2**20:.0f} MiB")
    for count in (1, 3, 10):
        target = place.root / "paired"
        more = (*options, "--pairing", "relative")
        _, peak = predict(place, "rl_nnunet_predict", model, place.root / f"{count}_pairs", target, *more)
        print(f"rl_nnunet_predict, {count} pairs: {peak / 2**20:.0f} MiB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96, help="voxels along the longest axis of a phantom")
    parser.add_argument("--rounds", type=int, default=5, help="of what takes turns")
    parser.add_argument("--only", choices=("times", "devices", "memory"), help="default: all three")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output / str(arguments.size), arguments.device, epoch_steps=STEPS)
    model = prepare(place, arguments.size)
    if arguments.only in (None, "times"):
        compare_times(place, model, arguments.rounds)
    if arguments.only in (None, "devices"):
        compare_devices(place, model, arguments.rounds)
    if arguments.only in (None, "memory"):
        memory_of_pairs(place, model)


if __name__ == "__main__":
    main()
