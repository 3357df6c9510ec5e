"""Agents around stock nnU-Net on one modality: masks and a policy of the augmentation, with many and with few cases.

The data are Task04 of the Medical Segmentation Decathlon (anterior and posterior hippocampus, MR), found through
``RL_NNUNET_DATA``; every fourth case is held out. 3D, the residual encoder of nnU-Net's ResEnc M planner with a quarter
of its features and one block a stage, batches of 2. Rows are ``TRAINER:STEPS``; a trainer with masks takes half as many
steps again on masked images, so that stock nnU-Net with 1.5 times its steps is what it has to beat. A finished run is
not repeated, and a stopped one goes on.

    python benchmarks/hippocampus.py -o FOLDER --seeds 0 1 2 --share 1.0
    python benchmarks/hippocampus.py -o FOLDER --seeds 0 1 2 --share 0.1
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from workflow import Results, Workplace, markdown, real_data

DATASET = "Dataset552_Hippocampus"
PLANNER, PLANS, CONFIGURATION = "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "3d_fullres"
ROWS = ("nnUNetTrainer:900", "APGATrainer:600", "AugmentationPolicyTrainer:900")
EPOCH_STEPS = 15
"""A policy that is rewarded once in an epoch needs many of them."""
HELD_OUT_EVERY = 4


def convert(place: Workplace, source: Path) -> None:
    """Copy the cases, which are in nnU-Net's format already, and plan with nnU-Net's own commands."""
    raw = place.path("nnUNet_raw", DATASET)
    names = sorted(file.name.removesuffix(".nii.gz") for file in (source / "labelsTr").glob("*.nii.gz"))
    for index, name in enumerate(names):
        part = "Tr" if index % HELD_OUT_EVERY else "Ts"
        for folder, file in (("images", f"{name}_0000.nii.gz"), ("labels", f"{name}.nii.gz")):
            (raw / f"{folder}{part}").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / f"{folder}Tr" / file, raw / f"{folder}{part}" / file)
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    generate_dataset_json(str(raw), {0: "MRI"}, labels, len(list((raw / "labelsTr").iterdir())), ".nii.gz")
    place.command(
        "nnUNetv2_plan_and_preprocess", "-d", DATASET[7:10], "-pl", PLANNER, "-c", CONFIGURATION, "-npfp", "1", "-np",
        "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip
    file = place.path("nnUNet_preprocessed", DATASET, f"{PLANS}.json")
    plans = json.loads(file.read_text())
    configuration = plans["configurations"][CONFIGURATION]
    configuration["batch_size"] = 2
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [features // 4 for features in arguments["features_per_stage"]]
    arguments["n_blocks_per_stage"] = [1] * arguments["n_stages"]
    file.write_text(json.dumps(plans))
    cases = sorted(name for name in names if (raw / "labelsTr" / f"{name}.nii.gz").is_file())
    folds = [{"train": cases[:: round(1 / share)], "val": cases[:: round(1 / share)]} for share in (1.0, 0.1)]
    file.with_name("splits_final.json").write_text(json.dumps(folds))


def measure(place: Workplace, trainer: str, steps: int, share: float, seed: int) -> dict[str, float]:
    """Train, predict and evaluate the held-out cases; return the Dice of both structures and their mean."""
    fold = "0" if share == 1 else "1"
    model = place.train(DATASET, trainer, PLANS, steps, seed, CONFIGURATION, fold)
    raw, target = place.path("nnUNet_raw", DATASET), model / f"predicted_by_fold_{fold}"
    place.predict(model, raw / "imagesTs", target, fold)
    dice = place.dice(raw / "labelsTs", target, model).mean()
    return {**dice, "mean": dice.mean()}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=ROWS, help="TRAINER:STEPS")
    parser.add_argument("--share", type=float, choices=(1.0, 0.1), default=1.0, help="of the training cases")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device, epoch_steps=EPOCH_STEPS)
    if not place.path("nnUNet_preprocessed", DATASET, "splits_final.json").is_file():
        convert(place, real_data("hippocampus"))
    results = Results(place.root / "dice.csv")
    for seed in arguments.seeds:
        for row in arguments.rows:
            trainer, _, steps = row.partition(":")
            run = {"row": row, "share": arguments.share, "seed": seed}
            if not results.has(run):
                results.add(run, [measure(place, trainer, int(steps), arguments.share, seed)])
                print(results.rows[-1], flush=True)
    groups = results.table.drop(columns="seed").groupby(["row", "share"], sort=False)
    table = pd.concat([groups.mean(), groups["mean"].std(ddof=1).rename("mean SD")], axis=1)
    table.index = [f"{row}, {share:.0%} of the cases, {len(groups.get_group((row, share)))} seeds"
                   for row, share in table.index]  # fmt: skip
    print(markdown(table))


if __name__ == "__main__":
    main()
