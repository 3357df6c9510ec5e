"""Two unpaired cardiac MR contrasts: RL-XAlign against stock nnU-Net, at the same plans and number of seen patches.

The data are MS-CMRSeg 2019 (bSSFP and LGE), found through ``RL_NNUNET_DATA``; eight patients are held out (five per
contrast, two of them in both). Rows of the table:

- ``RLXAlignTrainer``: one network, two branches, batch b (b patches of either contrast);
- ``nnUNetTrainer, two channels``: the same data with zero-filled absent channels, batch 2b;
- ``nnUNetTrainer, one model per contrast``: two networks, batch b each.

    python benchmarks/mscmr.py -o FOLDER --epochs 20 --iterations 50
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from workflow import Workplace, markdown, real_data, stock_plans

HELD_OUT = ("14", "18", "22", "26", "30", "34", "38", "42")
FILES = {"bSSFP": "{case}_C0", "LGE": "{case}_LGE"}
DATASETS = {"bSSFP": "Dataset522_bSSFP", "LGE": "Dataset523_LGE"}
DATASET = "Dataset521_MSCMR"
PLANS, STOCK = "RLXAlignSmallPlans", "StockPlans"


def convert(place: Workplace, data: Path) -> None:
    """Convert both contrasts together, and each alone."""

    def run(identifier: str, name: str, *contrasts: str) -> None:
        branches = []
        for contrast in contrasts:
            stem = data / contrast / FILES[contrast]
            branches += ["--branch", f"{contrast}={stem}.nii.gz:{stem}_manual.nii.gz"]
        patients = [p for p in HELD_OUT if any((data / c / f"{FILES[c].format(case=f'patient{p}')}.nii.gz").is_file()
                                               for c in contrasts)]  # fmt: skip
        # The stacks lie obliquely: turning them to one axis order would put the slices along different axes.
        place.command(
            "rl_nnunet_convert_unpaired", "-d", identifier, "-n", name, "--orientation", "keep", *branches,
            "--labels", "background=0", "myocardium=200", "left_ventricle=500", "right_ventricle=600",
            "--hold_out", *(f"patient{p}" for p in patients), "-np", "1",
        )  # fmt: skip

    run("521", "MSCMR", *FILES)
    for contrast, dataset in DATASETS.items():
        run(dataset[7:10], dataset[11:], contrast)


def plan(place: Workplace) -> None:
    """Plan with our planner, and give stock nnU-Net the same patch, spacing, encoder and decoder."""
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", "521", "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp", "1",
        "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip
    ours = json.loads(place.path("nnUNet_preprocessed", DATASET, f"{PLANS}.json").read_text())
    batch_size = ours["configurations"]["3d_fullres"]["batch_size"]
    zero_filled = stock_plans(ours, STOCK, (0, 1), 2 * batch_size)
    place.path("nnUNet_preprocessed", DATASET, f"{STOCK}.json").write_text(json.dumps(zero_filled))
    for channel, dataset in enumerate(DATASETS.values()):
        identifier = dataset[7:10]
        place.command("nnUNetv2_extract_fingerprint", "-d", identifier, "-np", "1")
        alone = stock_plans(ours, STOCK, (channel,), batch_size)
        alone["dataset_name"] = dataset
        alone["configurations"]["3d_fullres"]["data_identifier"] = f"{STOCK}_3d_fullres"
        folder = place.path("nnUNet_preprocessed", dataset)
        (folder / f"{STOCK}.json").write_text(json.dumps(alone))
        shutil.copy(place.path("nnUNet_raw", dataset, "dataset.json"), folder)
        place.command("nnUNetv2_preprocess", "-d", identifier, "-plans_name", STOCK, "-c", "3d_fullres", "-np", "1")


def dice_of(place: Workplace, model: Path, dataset: str) -> pd.DataFrame:
    """Predict and evaluate the held-out cases of a data set."""
    raw = place.path("nnUNet_raw", dataset)
    target = place.root / "predictions" / f"{dataset}_{model.name}"
    place.predict(model, raw / "imagesTs", target)
    return place.dice(raw / "labelsTs", target, model)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=50, help="per epoch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    if not place.path("nnUNet_raw", DATASET).is_dir():
        convert(place, real_data("mscmr"))
        plan(place)
    schedule = (arguments.epochs, arguments.iterations, arguments.seed)
    results = {
        "RLXAlignTrainer": dice_of(place, place.train(DATASET, "RLXAlignTrainerBenchmark", PLANS, *schedule), DATASET),
        "nnUNetTrainer, two channels": dice_of(
            place, place.train(DATASET, "nnUNetTrainerBenchmark", STOCK, *schedule), DATASET
        ),
        "nnUNetTrainer, one model per contrast": pd.concat(
            dice_of(place, place.train(dataset, "nnUNetTrainerBenchmark", STOCK, *schedule), dataset)
            for dataset in DATASETS.values()
        ),
    }
    rows = {}
    for name, cases in results.items():
        cases["mean"] = cases.mean(axis=1)
        means = cases.groupby(cases.index.str.split("_").str[0]).mean()
        rows[name] = {
            f"{contrast} {label}": means.loc[contrast, label] for contrast in FILES for label in means.columns
        }
    table = pd.DataFrame(rows).T
    table.to_csv(place.root / f"dice_seed{arguments.seed}.csv")
    print(f"{arguments.epochs * arguments.iterations} steps, seed {arguments.seed}\n\n{markdown(table)}")


if __name__ == "__main__":
    main()
