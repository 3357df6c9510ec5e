"""Two scans of one phantom patient on different grids: what a noisy MR gains from its CT.

CT and MR of 32 phantom hearts, each scan with a spacing, an origin and an axis order of its own; 24 hearts train, eight
are held out. 3D, one patch size, encoder and decoder for all rows:

- ``two channels``: stock nnU-Net on zero-filled channels, which sees every scan alone;
- ``RLXAlignTrainer`` and its ablations on ``--same_patient`` data, as they are planned.

All are tested on each scan alone, those of two branches also with the patient's other scan, and with another patient's,
which tells what the network sees in a companion from what it gains by any second scan. ``two channels`` is also tested
by what a user would do first: the segmentation of the other scan, resampled to the grid of this one, for which headers
have to be right. With ``--turned``, they are not: the content of each MR is turned by a random rotation of the cube.
A finished run (row, seed) is not repeated, and a stopped one goes on.

    python benchmarks/phantom_pairs.py -o FOLDER --noise 200 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import SimpleITK as sitk
from workflow import Results, Workplace, markdown, stock_plans

DATASET, PLANS, STOCK = "Dataset533_PhantomPairs", "RLXAlignSmallPlans", "StockPlans"
SCANS = {"CT": "ct", "MRI": "mr"}
STOCK_ROW = "two channels"
ROWS = (STOCK_ROW, "RLXAlignTrainer", "RLXAlignTrainerNoCarriedStages", "RLXAlignTrainerNoXAlign")
LABELS = ("background=0", "left_ventricle=500", "right_ventricle=600", "left_atrium=420", "right_atrium=550",
          "myocardium=205", "aorta=820", "pulmonary_artery=850")  # fmt: skip
CASES, HELD_OUT = 24, 8


def prepare(place: Workplace, size: int, noise: float, is_turned: bool) -> None:
    """Make, convert and plan the phantoms, for our trainers and for stock nnU-Net."""
    phantom = place.root / "phantom"
    place.command(
        "rl_nnunet_make_phantom", "-o", str(phantom), "--paired", "--cases", str(CASES + HELD_OUT), "--test_cases", "0",
        "--size", str(size), "--noise", str(noise), *(["--rotate_mr"] if is_turned else []), "-np", "1",
    )  # fmt: skip
    branches = []
    for branch, name in SCANS.items():
        stem = phantom / f"{name}_train" / f"{name}_train_{{case}}"
        branches += ["--branch", f"{branch}={stem}_image.nii.gz:{stem}_label.nii.gz"]
    numbers = sorted(file.name.split("_")[2] for file in (phantom / "ct_train").glob("*_image.nii.gz"))
    place.command(
        "rl_nnunet_convert_unpaired", "-d", DATASET[7:10], "-n", DATASET[11:], *branches, "--same_patient",
        "--labels", *LABELS, "--hold_out", *numbers[CASES:], "-np", "1",
    )  # fmt: skip
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", DATASET[7:10], "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres",
        "-npfp", "1", "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip
    file = place.path("nnUNet_preprocessed", DATASET, f"{PLANS}.json")
    plans = json.loads(file.read_text())
    batch_size = 2 * plans["configurations"]["3d_fullres"]["batch_size"]
    file.with_name(f"{STOCK}.json").write_text(json.dumps(stock_plans(plans, STOCK, (0, 1), batch_size)))


def scans_to_predict(place: Workplace, is_mixed: bool) -> tuple[Path, Path]:
    """Return folders with the held-out pairs, one case each, and with their references.

    With `is_mixed`, the second scan of each case is that of the next patient.
    """
    raw, folder = place.path("nnUNet_raw", DATASET), place.root / ("mixed" if is_mixed else "pairs")
    numbers = sorted(file.name.split("_")[1] for file in (raw / "imagesTs").glob("CT_*_0000.nii.gz"))
    for channel, branch in enumerate(SCANS):
        references = folder / "references" / branch
        for made in (folder / "images", references):
            made.mkdir(parents=True, exist_ok=True)
        shown = [*numbers[1:], numbers[0]] if is_mixed and channel else numbers
        for case, number in zip(numbers, shown, strict=True):
            name = f"{branch}_{number}"
            image = folder / "images" / f"{case}_000{channel}.nii.gz"
            shutil.copyfile(raw / "imagesTs" / f"{name}_000{channel}.nii.gz", image)
            shutil.copyfile(raw / "labelsTs" / f"{name}.nii.gz", references / f"{case}.nii.gz")
    return folder / "images", folder / "references"


def measure(place: Workplace, row: str, steps: int, seed: int) -> Iterator[dict[str, Any]]:
    """Train a row, predict and evaluate; yield the Dice of each scan by companion."""
    trainer, plans = ("nnUNetTrainer", STOCK) if row == STOCK_ROW else (row, PLANS)
    model = place.train(DATASET, trainer, plans, steps, seed)
    if row == STOCK_ROW:
        raw, predicted = place.path("nnUNet_raw", DATASET), model / "predicted"
        place.predict(model, raw / "imagesTs", predicted)
        yield from means(place.dice(raw / "labelsTs", predicted, model), "none")
        resample_from_other(predicted, model / "resampled")
        yield from means(place.dice(raw / "labelsTs", model / "resampled", model), "its segmentation")
        return
    tests = {"none": ("none", False), "its own": ("physical", False), "another patient's": ("physical", True)}
    for companion, (pairing, is_mixed) in tests.items():
        images, references = scans_to_predict(place, is_mixed)
        target = model / f"predicted_{companion.replace(' ', '_')}"
        place.command(
            "rl_nnunet_predict", "-m", str(model), "-i", str(images), "-o", str(target), "-f", "all", "--pairing",
            pairing, "-device", place.device, "-npp", "0", "-nps", "0", "--overwrite",
        )  # fmt: skip
        tables = [
            place.dice(references / branch, target / branch, model).rename(index=lambda case, b=branch: f"{b}_{case}")
            for branch in SCANS
        ]
        yield from means(pd.concat(tables), companion)


def resample_from_other(predicted: Path, target: Path) -> None:
    """Write, for each segmentation BRANCH_CASE, that of the patient's other scan on its grid."""
    target.mkdir(exist_ok=True)
    for file in predicted.glob("*.nii.gz"):
        branch, case = file.name.split("_")
        (other,) = (name for name in SCANS if name != branch)
        grid = sitk.ReadImage(str(file))
        mapped = sitk.Resample(
            sitk.ReadImage(str(predicted / f"{other}_{case}")), grid, interpolator=sitk.sitkLabelLinear
        )
        sitk.WriteImage(mapped, str(target / file.name))


def means(table: pd.DataFrame, companion: str) -> Iterator[dict[str, Any]]:
    """Yield the mean Dice over structures of the scans, which are named BRANCH_CASE."""
    for name, value in table.mean(axis=1).items():
        branch, case = str(name).split("_")
        yield {"companion": companion, "branch": branch, "case": case, "dice": value}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for each noise, turned or not")
    parser.add_argument("--noise", type=float, default=200, help="SD of the MR's noise; blood is about 450 to 600")
    parser.add_argument("--turned", action="store_true", help="turn the content of each MR by a random rotation")
    parser.add_argument("--steps", type=int, default=600, help="a multiple of 50")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="*", default=ROWS)
    parser.add_argument("--size", type=int, default=32, help="voxels along a CT's longest axis")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    if not place.path("nnUNet_preprocessed", DATASET, f"{STOCK}.json").is_file():
        prepare(place, arguments.size, arguments.noise, arguments.turned)
    results = Results(place.root / "dice.csv")
    for seed in arguments.seeds:
        for row in arguments.rows:
            run = {"row": row, "seed": seed, "steps": arguments.steps}
            if not results.has(run):
                results.add(run, measure(place, row, arguments.steps, seed))
    if not results.rows:
        return
    keys = ["row", "steps", "companion"]
    seeds = results.table.groupby([*keys, "branch", "seed"], sort=False)["dice"].mean()
    table = seeds.groupby([*keys, "branch"], sort=False).agg(["mean", "std"]).unstack("branch")
    table.index = [f"{row}, {steps} steps, companion: {companion}" for row, steps, companion in table.index]
    table.columns = [f"{branch} {kind}" for kind, branch in table.columns]
    print(markdown(table))


if __name__ == "__main__":
    main()
