"""One sequence of a case is degraded, which agents could turn down.

Every row, ``TRAINER:STEPS``, trains on MyoPS, or on phantom tumors (data and plans of ``paired.py``, and
``modality_degradation`` in the plans), with one sequence of half of the samples degraded, by any of the kinds of
`rl_nnunet.dataloading.degradation` and any severity. Held-out cases are predicted with all sequences, of which each in
turn is degraded by each kind: the Dice is a mean over sequences, cases and structures. Of agents that leave out
sequences, ``left_out.csv`` tells how often they leave out the degraded one and the others, and how well the share of
the windows tells degraded sequences from those of intact cases (area under the curve).

``--unmet`` tests with damages that no training has met: a sequence that is turned or mirrored in the plane, blurred, of
inverted contrast, or blank on one side.

``--register`` is what a user would do first where sequences may be shifted: all are moved in the plane to the first one
before they are predicted, by the mutual information of their intensities (SimpleITK).

``--least_entropy`` is what a user could do without an agent: predict from all sequences and without each, and keep the
segmentation of a case that is the most certain, at as many times the cost.

    python benchmarks/degraded.py -o FOLDER --seeds 0 1 2 --rows nnUNetTrainerModalityDegradation:2500 \
        IntraInterTrainerNoAgents:1500 IntraInterTrainerSelection:1450
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from paired import DATA, STOCK, Data, Row, convert_myops, convert_phantom, plan, report
from scipy.ndimage import gaussian_filter, rotate, shift, zoom
from scipy.special import entr
from sklearn.metrics import roc_auc_score
from workflow import Results, Workplace, real_data

from rl_nnunet.dataloading.degradation import KINDS, OTHER_PATIENT
from rl_nnunet.evaluation.subset_prediction import SubsetPredictor, find_cases
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.plans.modality_shares import MODALITY_DEGRADATION
from rl_nnunet.prediction.left_out import LeftOut

Damage = Callable[[np.ndarray, float, Sequence[float]], np.ndarray]
"""Of a scan (z, y, x), a severity up to 1 and the spacing in mm."""
INTACT = "intact"
SEVERITIES = (0.5, 1.0)
SHARE = 0.5
"""Of the training samples."""
SUFFIX = "Degraded"
"""Of the plans that say so."""


def degrade_training(place: Workplace, data: Data) -> None:
    """Write plans beside those of ``paired.py`` whose trainings degrade samples."""
    for file in place.path("nnUNet_preprocessed", data.dataset).glob("*Plans.json"):
        plans = json.loads(file.read_text())
        plans["plans_name"] += SUFFIX
        plans["configurations"][data.configuration][MODALITY_DEGRADATION] = SHARE
        file.with_name(f"{plans['plans_name']}.json").write_text(json.dumps(plans))


def turned(scan: np.ndarray, severity: float, spacing: Sequence[float]) -> np.ndarray:
    """Turn a scan (z, y, x) in the plane by up to 40 degrees."""
    return rotate(scan, 40 * severity, axes=(1, 2), reshape=False, order=1, mode="nearest")


def mirrored(scan: np.ndarray, severity: float, spacing: Sequence[float]) -> np.ndarray:
    """Mirror a scan from left to right, as if its header were wrong; it knows no severity."""
    return scan[:, :, ::-1]


def blurred(scan: np.ndarray, severity: float, spacing: Sequence[float]) -> np.ndarray:
    """Smooth a scan in the plane by a Gaussian with a standard deviation of up to 8 mm."""
    return gaussian_filter(scan, (0, *np.divide(8 * severity, spacing[-2:])))


def inverted(scan: np.ndarray, severity: float, spacing: Sequence[float]) -> np.ndarray:
    """Invert the contrast of a scan, as if another sequence stood in its place; it knows no severity."""
    return scan.min() + scan.max() - scan


def cut(scan: np.ndarray, severity: float, spacing: Sequence[float]) -> np.ndarray:
    """Set up to half of a scan to 0, from one side on, as a field of view that is too small."""
    kept = scan.copy()
    kept[:, :, : round(severity / 2 * scan.shape[2])] = 0
    return kept


UNMET: dict[str, tuple[Damage, Sequence[float]]] = {
    "turned": (turned, SEVERITIES),
    "mirrored": (mirrored, (1.0,)),
    "blurred": (blurred, SEVERITIES),
    "inverted": (inverted, (1.0,)),
    "cut": (cut, SEVERITIES),
}
"""Damages that no training has met, and at which severities."""


def unmet_images(image: np.ndarray, spacing: Sequence[float]) -> dict[str, list[np.ndarray]]:
    """Return the image (channels, z, y, x) as it is, and per damage of `UNMET` with each channel damaged in turn."""
    images = {INTACT: [image]}
    for channel, scan in enumerate(image):
        for kind, (damage, severities) in UNMET.items():
            for severity in severities:
                changed = image.copy()
                changed[channel] = damage(scan, severity, spacing)
                images.setdefault(f"{kind} {severity:g}" if len(severities) > 1 else kind, []).append(changed)
    return images


def degraded_images(
    image: np.ndarray, other: np.ndarray, seed: int, spacing: Sequence[float], planned: Sequence[float]
) -> dict[str, list[np.ndarray]]:
    """Return the image (channels, z, y, x) as it is, and per kind and severity with each channel degraded in turn.

    A channel is degraded at the planned spacing, of y and x or of all axes, and brought back to its own (z, y, x).
    """
    axes = len(planned)
    factors = [1.0] * (3 - axes) + list(np.divide(spacing[-axes:], planned))
    images = {INTACT: [image]}
    for channel, scan in enumerate(image):
        torch.manual_seed(seed)
        coarse = torch.from_numpy(zoom(scan, factors, order=1))
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


def registered(image: np.ndarray, spacing: Sequence[float], planned: Sequence[float]) -> np.ndarray:
    """Return the image (channels, z, y, x), all channels moved in the plane to where they fit the first one best.

    They are registered at the planned spacing of y and x, slice beside slice, so that all slices of a scan are moved
    alike; `spacing` is the image's own (z, y, x).
    """
    factors = np.divide(spacing[-2:], planned[-2:])
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


def most_certain(predictor: SubsetPredictor, image: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    """Return the segmentation of least entropy, summed over voxels, of those from all sequences and without each."""
    names, found = predictor.model.modalities, []
    for left_out in (None, *range(len(names))):
        changed = image.copy()
        if left_out is not None:
            changed[left_out] = 0
        segmentation, probabilities = predictor.predictor.predict_single_npy_array(
            changed, deepcopy(properties), None, None, save_or_return_probabilities=True
        )
        entropies = entr(probabilities)
        if predictor.predictor.label_manager.has_regions:
            entropies += entr(1 - probabilities)
        found.append((float(entropies.sum()), segmentation))
    return min(found, key=lambda one: one[0])[1]


def evaluate(
    place: Workplace, data: Data, model: Path, options: argparse.Namespace
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the mean Dice of each kind and severity, and what was left out of each image, with a row per sequence."""
    raw = place.path("nnUNet_raw", data.dataset)
    trained = TrainedModel(model, ("all",))
    predictor = SubsetPredictor(trained, place.device, 0.5, mirroring=False)
    watch = LeftOut(predictor.predictor.network, trained.modalities)
    cases = find_cases(raw / "imagesTs", raw / "labelsTs", trained.modalities, ".nii.gz")
    rows, shares, planned = [], [], trained.plans.get_configuration(data.configuration).spacing
    for index, case in enumerate(cases):
        image, properties, reference = predictor.read(case)
        other = predictor.read(cases[(index + 1) % len(cases)])[0]
        spacing = properties["spacing"]
        damaged = (
            unmet_images(image, spacing) if options.unmet else degraded_images(image, other, index, spacing, planned)
        )
        for kind, images in damaged.items():
            for degraded, changed in zip(trained.modalities, images, strict=False):
                seen = registered(changed, spacing, planned) if options.register else changed
                if options.least_entropy:
                    prediction = most_certain(predictor, seen, properties)
                else:
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
    parser.add_argument("--data", choices=tuple(DATA), default="myops")
    parser.add_argument("--rows", nargs="+", required=True, help="TRAINER:STEPS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--register", action="store_true", help="move all sequences to the first one before predicting")
    parser.add_argument("--least_entropy", action="store_true", help="leave out what makes a case the most certain")
    parser.add_argument("--unmet", action="store_true", help="test with damages that no training has met")
    parser.add_argument("--size", type=int, default=32, help="voxels along the longest axis of a phantom")
    parser.add_argument("--cases", type=int, default=20, help="training phantoms")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place, data = Workplace(arguments.output, arguments.device), DATA[arguments.data]
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_preprocessed", data.dataset, f"{STOCK}.json").is_file():
        if arguments.data == "phantom":
            convert_phantom(place, arguments.size, arguments.cases, noise_sequence=None)
        else:
            convert_myops(place, real_data("myops"))
        plan(place, data)
    degrade_training(place, data)
    variant = "_unmet" if arguments.unmet else ""
    results, left_out = (Results(place.root / f"{name}{variant}.csv") for name in ("degraded", "left_out"))
    for seed in arguments.seeds:
        for name in arguments.rows:
            ways = [way for way in ("register", "least_entropy") if getattr(arguments, way)]
            run = {"row": ", ".join([name, *ways]), "seed": seed}
            if results.has(run):
                continue
            trainer, _, steps = name.partition(":")
            row = Row(trainer, int(steps))
            model = place.train(data.dataset, row.trainer, row.plans + SUFFIX, row.steps, seed, data.configuration)
            dice, shares = evaluate(place, data, model, arguments)
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
