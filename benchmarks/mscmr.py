"""Two unpaired cardiac MR contrasts, all labels or few of one contrast: RL-XAlign against what a user would do first.

The data are MS-CMRSeg 2019 (bSSFP and LGE), found through ``RL_NNUNET_DATA``; eight patients are held out (five per
contrast, two of them in both). 2D, one patch size, encoder and decoder for all rows of the table:

- ``RLXAlignTrainer`` and its ablations: one network, two branches, b patches of either contrast per step;
- ``two channels``: stock nnU-Net on the same data with zero-filled absent channels, 2b patches per step;
- ``one channel``: stock nnU-Net on scans of either contrast as if they were of one kind, 2b patches per step;
- ``alone``: a stock network per contrast, b patches per step.

``--few bSSFP=4`` trains on four patients of a contrast and all of the other, and reports the contrast with few;
``alone`` then has the few only. ``--full`` leaves networks, patches and spacing to the usual planner: for GPUs, in a
folder of its own. A finished run (row, seed) is not repeated, and a stopped one goes on.

    python benchmarks/mscmr.py -o FOLDER --steps 1300 --seeds 0 1 2
    python benchmarks/mscmr.py -o FOLDER --steps 1300 --seeds 0 1 2 --few bSSFP=2 bSSFP=4 bSSFP=8 LGE=2 LGE=4 LGE=8
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from mscmr_data import (
    CONFIGURATION,
    DATASET,
    DATASETS,
    FILES,
    FULL_PLANS,
    ONE_CHANNEL,
    PLANS,
    STOCK,
    convert,
    plan,
)
from workflow import EPOCH_STEPS, Results, Workplace, markdown, real_data

HELD_OUT = ("14", "18", "22", "26", "30", "34", "38", "42")
ROWS = ("RLXAlignTrainer", "two channels", "one channel", "alone")
STOCK_ON_BOTH = {"two channels": DATASET, "one channel": ONE_CHANNEL}


class Labels(NamedTuple):
    """How many patients of a contrast have labels for the training; all of both without a contrast."""

    contrast: str | None = None
    patients: int = 0

    @property
    def name(self) -> str:
        """Name in tables and of folders."""
        return f"{self.patients} {self.contrast}" if self.contrast else "all"


def few(text: str) -> Labels:
    """Read ``bSSFP=4``."""
    contrast, _, patients = text.partition("=")
    if contrast not in FILES or not patients.isdigit() or int(patients) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not like bSSFP=4")
    return Labels(contrast, int(patients))


def fold_of(place: Workplace, dataset: str, labels: Labels) -> str:
    """Return the fold that trains on some labels, which is added to the data set's folds where it is new."""
    if labels.contrast is None:
        return "all"
    folder = place.path("nnUNet_preprocessed", dataset)
    names = sorted(
        file.name.removesuffix(".nii.gz") for file in place.path("nnUNet_raw", dataset, "labelsTr").iterdir()
    )
    having = [name for name in names if name.startswith(f"{labels.contrast}_")]
    chosen = having[:: max(1, len(having) // labels.patients)][: labels.patients]
    cases = [name for name in names if name not in having or name in chosen]
    file = folder / "benchmark_folds.json"
    folds = json.loads(file.read_text()) if file.is_file() else []
    if cases not in folds:
        folds.append(cases)
        file.write_text(json.dumps(folds))
    (folder / "splits_final.json").write_text(json.dumps([{"train": fold, "val": fold} for fold in folds]))
    return str(folds.index(cases))


def dice_of(place: Workplace, row: str, labels: Labels, steps: int, seed: int, plans: str) -> dict[str, float]:
    """Train a row, predict and evaluate the held-out cases; return the Dice of each contrast and structure."""
    if row == "alone":
        jobs = [(DATASETS[c], "nnUNetTrainer", STOCK) for c in FILES if labels.contrast in (None, c)]
    else:
        jobs = [(STOCK_ON_BOTH[row], "nnUNetTrainer", STOCK) if row in STOCK_ON_BOTH else (DATASET, row, plans)]
    tables = []
    for dataset, trainer, its_plans in jobs:
        fold = fold_of(place, dataset, labels)
        model = place.train(dataset, trainer, its_plans, steps, seed, CONFIGURATION, fold)
        raw, target = place.path("nnUNet_raw", dataset), model / f"predicted_by_fold_{fold}"
        place.predict(model, raw / "imagesTs", target, fold)
        tables.append(place.dice(raw / "labelsTs", target, model))
    cases = pd.concat(tables)
    cases["mean"] = cases.mean(axis=1)
    means = cases.groupby(cases.index.str.split("_").str[0]).mean()
    reported = [labels.contrast] if labels.contrast else list(FILES)
    return {f"{contrast} {label}": means.loc[contrast, label] for contrast in reported for label in means.columns}


def tables(results: pd.DataFrame) -> str:
    """Return mean and spread over the seeds in Markdown, a table for each number of labels."""
    parts = []
    for name, part in results.groupby("labels", sort=False):
        rows = part.drop(columns=["labels", "seed"]).dropna(axis=1).groupby(["row", "steps"], sort=False)
        mean, spread = rows.mean(), rows.std(ddof=1).iloc[:, [-1]].add_suffix(" SD")
        table = pd.concat([mean, spread], axis=1)
        table.index = [f"{row}, {steps} steps, {len(rows.get_group((row, steps)))} seeds" for row, steps in table.index]
        parts.append(f"Labels: {name}\n\n{markdown(table)}")
    return "\n\n".join(parts)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=ROWS, help="ablations of RLXAlignTrainer are rows, too")
    parser.add_argument("--few", type=few, nargs="+", default=[Labels()], help="such as bSSFP=4; default: all labels")
    parser.add_argument("--sgd", action="store_true", help="keep the trainers' optimizers, in place of AdamW")
    parser.add_argument(
        "--epoch_steps", type=int, default=EPOCH_STEPS, help="agents that learn from validations need short epochs"
    )
    parser.add_argument("--full", action="store_true", help="plan the usual network and patch, not the small ones")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device, arguments.sgd, arguments.epoch_steps)
    if not place.path("nnUNet_preprocessed", DATASETS["LGE"], f"{STOCK}_{CONFIGURATION}").is_dir():
        convert(place, real_data("mscmr"), HELD_OUT)
        plan(place, arguments.full)
    results = Results(place.root / f"dice{place.variant}.csv")
    for seed in arguments.seeds:
        for labels in arguments.few:
            for row in arguments.rows:
                run = {"row": row, "labels": labels.name, "steps": arguments.steps, "seed": seed}
                if not results.has(run):
                    plans = FULL_PLANS if arguments.full else PLANS
                    results.add(run, [dice_of(place, row, labels, arguments.steps, seed, plans)])
    print(tables(results.table))


if __name__ == "__main__":
    main()
