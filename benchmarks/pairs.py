"""Two scans of a patient on different grids: each alone, and while the network sees the other one.

The data are MS-CMRSeg 2019, of whose patients nine have both contrasts, found through ``RL_NNUNET_DATA``. Three folds
hold out three of the nine each, with both of their scans, and train on all other scans of either contrast; each fold
has a seed of its own. 2D, one patch size, encoder and decoder for all rows; b patches of either contrast per step:

- ``alone``: a stock network per contrast;
- ``two channels``: what is done today. The companion is resampled to the grid of each scan, where the patient has one
  (by relative extent: the coordinates are wrong in these data), and stock nnU-Net trains on two channels;
- ``other patients``: `RLXAlignTrainer`, whose branches show scans of different patients in training;
- ``same patient``: `RLXAlignTrainer`, whose branches show one patient in the planned share of the samples.

All but the first are tested without a companion and with their own; those of two branches also with that of another
patient, which tells what the network sees in a companion from what it gains by any second scan. The first is also
tested by the segmentation of the other scan, resampled to the grid of this one. A finished run is not
repeated, and a stopped one goes on.

    python benchmarks/pairs.py -o FOLDER
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
from mscmr_data import (
    BATCH_SIZE,
    CONFIGURATION,
    DATASET,
    DATASETS,
    FILES,
    PLANS,
    STOCK,
    convert,
    plan,
    preprocess_with,
)
from workflow import Results, Workplace, markdown, real_data, stock_plans

from rl_nnunet.grids import read_grid, relative_map
from rl_nnunet.plans.companions import CompanionConfig

PATIENTS = range(24, 33)
FOLDS = 3
RESAMPLED = "Dataset524_Resampled"
SAME_PATIENT = "SamePatientPlans"
ROWS = {
    "alone": ("nnUNetTrainer", STOCK),
    "two channels": ("nnUNetTrainer", STOCK),
    "other patients": ("RLXAlignTrainer", PLANS),
    "same patient": ("RLXAlignTrainer", SAME_PATIENT),
}


def prepare(place: Workplace) -> None:
    """Convert, plan and preprocess all that the rows train on, and write the folds."""
    convert(place, real_data("mscmr"), (), "--same_patient")
    plan(place)
    folder = place.path("nnUNet_preprocessed", DATASET)
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    for name, share in ((SAME_PATIENT, CompanionConfig().same_patient), (PLANS, 0.0)):
        plans["plans_name"] = name
        configuration = plans["configurations"][CONFIGURATION]
        configuration["companions"] = {"same_patient": share, "placement": "relative"}
        if share == 0:  # as unpaired data are planned
            configuration["architecture"]["arch_kwargs"]["carried_stages"] = []
        (folder / f"{name}.json").write_text(json.dumps(plans))
    resample_companions(place)
    preprocess_with(place, stock_plans(plans, STOCK, (0, 1), 2 * BATCH_SIZE, CONFIGURATION), RESAMPLED)
    for dataset in (DATASET, RESAMPLED, *DATASETS.values()):
        files = place.path("nnUNet_raw", dataset, "labelsTr").iterdir()
        names = sorted(file.name.removesuffix(".nii.gz") for file in files)
        folds = []
        for fold in range(FOLDS):
            held_out = {name for name in names if name.split("_")[1] in patients_of(fold)}
            folds.append({"train": [name for name in names if name not in held_out], "val": sorted(held_out)})
        place.path("nnUNet_preprocessed", dataset, "splits_final.json").write_text(json.dumps(folds))


def patients_of(fold: int) -> list[str]:
    """Return the patients that a fold holds out."""
    return [f"patient{number}" for number in PATIENTS[fold::FOLDS]]


def scan(place: Workplace, contrast: str, patient: str) -> Path:
    """Return the file of a scan, with the spacing corrected."""
    channel = list(FILES).index(contrast)
    return place.path("nnUNet_raw", DATASET, "imagesTr", f"{contrast}_{patient}_000{channel}.nii.gz")


def resample_companions(place: Workplace) -> None:
    """Write a data set whose cases have the companion on the grid of each scan, zeros where there is none."""
    source, target = (place.path("nnUNet_raw", name) for name in (DATASET, RESAMPLED))
    shutil.copytree(source, target)
    for contrast in FILES:
        other = next(name for name in FILES if name != contrast)
        for patient in (f"patient{number}" for number in PATIENTS):
            here, there = scan(place, contrast, patient), scan(place, other, patient)
            channel = list(FILES).index(other)
            file = target / "imagesTr" / f"{contrast}_{patient}_000{channel}.nii.gz"
            sitk.WriteImage(resampled(there, here, sitk.sitkLinear), file)


def resampled(source: Path, grid: Path, interpolator: int) -> sitk.Image:
    """Return an image on the grid of another one, placed by relative extent."""
    matrix = relative_map(read_grid(grid), read_grid(source))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return sitk.Resample(sitk.ReadImage(source), sitk.ReadImage(grid), transform, interpolator)


def scans_to_predict(place: Workplace, row: str, fold: int, is_mixed: bool = False) -> tuple[Path, Path]:
    """Return folders with the scans that a fold holds out, in the channels of the row's network, and with references.

    With `is_mixed`, the second scan of each case is that of the next patient.
    """
    name = f"{fold}_mixed" if is_mixed else str(fold)
    folder = place.root / "held_out" / ("alone" if row == "alone" else "together") / name
    patients = patients_of(fold)
    for channel, contrast in enumerate(FILES):
        images = folder / contrast if row == "alone" else folder
        references = place.root / "references" / name / contrast
        images.mkdir(parents=True, exist_ok=True)
        references.mkdir(parents=True, exist_ok=True)
        scanned = [*patients[1:], patients[0]] if is_mixed and channel else patients
        for case, patient in zip(patients, scanned, strict=True):
            file = scan(place, contrast, patient)
            shutil.copyfile(file, images / f"{case}_000{0 if row == 'alone' else channel}.nii.gz")
            label = place.path("nnUNet_raw", DATASET, "labelsTr", f"{contrast}_{patient}.nii.gz")
            shutil.copyfile(label, references / f"{case}.nii.gz")
    return folder, place.root / "references" / name


def measure(place: Workplace, row: str, fold: int, steps: int) -> Iterator[dict[str, Any]]:
    """Train a row on a fold, predict and evaluate the patients that are held out; yield the Dice of each scan."""
    trainer, plans = ROWS[row]
    images, references = scans_to_predict(place, row, fold)
    if row == "alone":
        models = {}
        for contrast, dataset in DATASETS.items():
            models[contrast] = place.train(dataset, trainer, plans, steps, fold, CONFIGURATION, str(fold))
            target = models[contrast] / f"predicted_by_fold_{fold}"
            place.predict(models[contrast], images / contrast, target, str(fold))
            yield from dice(place, row, contrast, "none", fold, target, references, models[contrast])
        for contrast, model in models.items():
            (other,) = (models[name] for name in models if name != contrast)
            target = model / f"resampled_by_fold_{fold}"
            target.mkdir(exist_ok=True)
            for file in (model / f"predicted_by_fold_{fold}").glob("*.nii.gz"):
                there = other / f"predicted_by_fold_{fold}" / file.name
                sitk.WriteImage(resampled(there, file, sitk.sitkLabelLinear), target / file.name)
            yield from dice(place, row, contrast, "its segmentation", fold, target, references, model)
        return
    dataset = RESAMPLED if row == "two channels" else DATASET
    model = place.train(dataset, trainer, plans, steps, fold, CONFIGURATION, str(fold))
    tests = {"none": ("none", images, references), "its own": ("relative", images, references)}
    if row != "two channels":
        tests["another patient's"] = ("relative", *scans_to_predict(place, row, fold, is_mixed=True))
    for companion, (pairing, images, references) in tests.items():
        target = model / f"predicted_by_fold_{fold}_{companion.replace(' ', '_')}"
        place.command(
            "rl_nnunet_predict", "-m", str(model), "-i", str(images), "-o", str(target), "-f", str(fold), "--pairing",
            pairing, "-device", place.device, "-npp", "0", "-nps", "0", "--overwrite",
        )  # fmt: skip
        for contrast in FILES:
            yield from dice(place, row, contrast, companion, fold, target / contrast, references, model)


def dice(
    place: Workplace,
    row: str,
    contrast: str,
    companion: str,
    fold: int,
    predictions: Path,
    references: Path,
    model: Path,
) -> Iterator[dict[str, Any]]:
    """Yield the Dice of each scan of a contrast."""
    table = place.dice(references / contrast, predictions, model)
    for case, structures in table.iterrows():
        yield {
            "row": row, "companion": companion, "contrast": contrast, "fold": fold, "case": case, **structures,
            "mean": structures.mean(),
        }  # fmt: skip


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over patients per row and contrast, and its SD over the folds."""
    groups = ["row", "companion", "contrast"]
    values = results.drop(columns=["case", "steps", "fold"]).groupby(groups, sort=False).mean()
    folds = results.groupby([*groups, "fold"], sort=False)["mean"].mean()
    values["SD of the folds"] = folds.groupby(groups, sort=False).std(ddof=1)
    values.index = [f"{row}, companion: {companion}: {contrast}" for row, companion, contrast in values.index]
    return values


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)), choices=range(FOLDS))
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    if not place.path("nnUNet_preprocessed", DATASETS["LGE"], "splits_final.json").is_file():
        prepare(place)
    results = Results(place.root / "dice.csv")
    for fold in arguments.folds:
        for row in arguments.rows:
            run = {"row": row, "fold": fold, "steps": arguments.steps}
            if not results.has(run):
                results.add(run, measure(place, row, fold, arguments.steps))
                print(markdown(summary(results.table)), flush=True)
    print(markdown(summary(results.table)))


if __name__ == "__main__":
    main()
