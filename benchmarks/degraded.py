"""One sequence of a case is degraded, which agents could turn down.

Every row, ``TRAINER:STEPS``, trains on MyoPS (the data and plans of ``paired.py``, and ``modality_degradation`` in the
plans) with one sequence of half of the samples degraded, by any of the kinds of `rl_nnunet.dataloading.degradation` and
any severity. Held-out cases are predicted with all sequences, of which each in turn is degraded by each kind: the Dice
is a mean over sequences, cases and structures. Of agents that leave out sequences, ``left_out.csv`` tells how often
they leave out the degraded one and the others, and how well the share of the windows tells degraded sequences from
those of intact cases (area under the curve).

``--register`` is what a user would do first where sequences may be shifted: all are moved in the plane to the first one
before they are predicted, by the mutual information of their intensities (SimpleITK).

    python benchmarks/degraded.py -o FOLDER --seeds 0 1 2 --rows nnUNetTrainerModalityDegradation:2500 \
        IntraInterTrainerNoAgents:1500 IntraInterTrainerSelection:1450
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from paired import DATA, STOCK, Row, convert_myops, plan, report
from scipy.ndimage import shift, zoom
from sklearn.metrics import roc_auc_score
from workflow import Results, Workplace, real_data

from rl_nnunet.dataloading.degradation import KINDS, OTHER_PATIENT
from rl_nnunet.evaluation.subset_prediction import SubsetPredictor, find_cases
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.plans.modality_shares import MODALITY_DEGRADATION
from rl_nnunet.prediction.left_out import LeftOut

INTACT = "intact"
SEVERITIES = (0.5, 1.0)
SHARE = 0.5
"""Of the training samples."""
SUFFIX = "Degraded"
"""Of the plans that say so."""


def degrade_training(place: Workplace) -> None:
    """Write plans beside those of ``paired.py`` whose trainings degrade samples."""
    data = DATA["myops"]
    for file in place.path("nnUNet_preprocessed", data.dataset).glob("*Plans.json"):
        plans = json.loads(file.read_text())
        plans["plans_name"] += SUFFIX
        plans["configurations"][data.configuration][MODALITY_DEGRADATION] = SHARE
        file.with_name(f"{plans['plans_name']}.json").write_text(json.dumps(plans))


def degraded_images(
    image: np.ndarray, other: np.ndarray, seed: int, spacing: Sequence[float], planned: Sequence[float]
) -> dict[str, list[np.ndarray]]:
    """Return the image (channels, z, y, x) as it is, and per kind and severity with each channel degraded in turn.

    A channel is degraded in the plane, at the planned spacing of y and x, and brought back to its own.
    """
    images, factors = {INTACT: [image]}, np.divide(spacing, planned)
    for channel, scan in enumerate(image):
        torch.manual_seed(seed)
        coarse = torch.from_numpy(zoom(scan, (1, *factors), order=1))
        for kind, degrade in KINDS.items():
            for severity in SEVERITIES:
                changed = image.copy()
                changed[channel] = resized(degrade(coarse, severity, planned).numpy(), scan.shape)
                images.setdefault(f"{kind} {severity:g}", []).append(changed)
        changed = image.copy()
        changed[channel] = resized(other[channel], scan.shape)
        images.setdefault(OTHER_PATIENT, []).append(changed)
    return images


def resized(scan: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a scan with another number of voxels, interpolated linearly."""
    return zoom(scan, np.divide(shape, scan.shape), order=1)


def registered(image: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Return the image (channels, z, y, x), all channels moved in the plane to where they fit the first one best.

    They are registered at the planned spacing, slice beside slice, so that all slices of a scan are moved alike.
    """
    tiles = [
        sitk.GetImageFromArray(np.concatenate(zoom(scan, (1, *factors), order=1)).astype(np.float32)) for scan in image
    ]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation()
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=4.0, minStep=0.05, numberOfIterations=100)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    result = image.copy()
    for channel in range(1, len(image)):
        method.SetInitialTransform(sitk.TranslationTransform(2), inPlace=False)
        x, y = method.Execute(tiles[0], tiles[channel]).GetParameters()
        result[channel] = shift(image[channel], (0, -y / factors[0], -x / factors[1]), order=1, mode="nearest")
    return result


def evaluate(place: Workplace, model: Path, register: bool) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the mean Dice of each kind and severity, and what was left out of each image, with a row per sequence."""
    raw = place.path("nnUNet_raw", DATA["myops"].dataset)
    trained = TrainedModel(model, ("all",))
    predictor = SubsetPredictor(trained, place.device, 0.5, mirroring=False)
    watch = LeftOut(predictor.predictor.network, trained.modalities)
    cases = find_cases(raw / "imagesTs", raw / "labelsTs", trained.modalities, ".nii.gz")
    rows, shares, planned = [], [], trained.plans.get_configuration(DATA["myops"].configuration).spacing
    for index, case in enumerate(cases):
        image, properties, reference = predictor.read(case)
        other = predictor.read(cases[(index + 1) % len(cases)])[0]
        spacing = properties["spacing"][1:]
        for kind, images in degraded_images(image, other, index, spacing, planned).items():
            for degraded, changed in zip(trained.modalities, images, strict=False):
                seen = registered(changed, np.divide(spacing, planned)) if register else changed
                prediction = predictor.predict(seen, properties, trained.modalities)
                counts = predictor.count(reference, prediction).values()
                dice = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan for tp, fp, fn in counts]
                rows.append({"kind": kind, **dict(enumerate(dice))})
                for name, share in watch.take().items():
                    is_degraded = kind != INTACT and name == degraded
                    shares.append({"kind": kind, "sequence": name, "is_degraded": is_degraded, "share": share})
    return pd.DataFrame(rows).groupby("kind", sort=False).mean().mean(axis=1).to_dict(), pd.DataFrame(shares)


def told_apart(shares: pd.DataFrame) -> pd.DataFrame:
    """Return, per kind, the mean shares of the degraded and of the other sequences, and the area under the curve."""
    intact = shares.loc[shares["kind"] == INTACT, "share"]
    rows = []
    for kind, part in shares.groupby("kind", sort=False):
        degraded, others = part.loc[part["is_degraded"], "share"], part.loc[~part["is_degraded"], "share"]
        row = {"kind": kind, "degraded": degraded.mean(), "others": others.mean(), "area under the curve": np.nan}
        if len(degraded):
            truth = [1] * len(degraded) + [0] * len(intact)
            row["area under the curve"] = roc_auc_score(truth, [*degraded, *intact])
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", required=True, help="TRAINER:STEPS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--register", action="store_true", help="move all sequences to the first one before predicting")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place, data = Workplace(arguments.output, arguments.device), DATA["myops"]
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_preprocessed", data.dataset, f"{STOCK}.json").is_file():
        convert_myops(place, real_data("myops"))
        plan(place, data)
    degrade_training(place)
    results, left_out = (Results(place.root / f"{name}.csv") for name in ("degraded", "left_out"))
    for seed in arguments.seeds:
        for name in arguments.rows:
            run = {"row": name + (", registered" if arguments.register else ""), "seed": seed}
            if results.has(run):
                continue
            trainer, _, steps = name.partition(":")
            row = Row(trainer, int(steps))
            model = place.train(data.dataset, row.trainer, row.plans + SUFFIX, row.steps, seed, data.configuration)
            dice, shares = evaluate(place, model, arguments.register)
            if not shares.empty:
                left_out.add(run, told_apart(shares).to_dict("records"))
            damaged = [value for kind, value in dice.items() if kind != INTACT]
            results.add(run, [{**dice, "mean of all damages": float(np.mean(damaged))}])
            print(results.rows[-1], flush=True)
    print(report(results.table, "mean of all damages"))
    if left_out.rows:
        print(left_out.table.groupby(["row", "kind"], sort=False).mean(numeric_only=True).drop(columns="seed"))


if __name__ == "__main__":
    main()
