"""One sequence of a case is degraded, which agents could turn down.

Every row, ``TRAINER:STEPS``, trains on MyoPS (the data and plans of ``paired.py``) with one sequence of half of the
samples degraded, by any of the kinds of ``trainers/degradations.py`` and any severity. Held-out cases are predicted
with all sequences, of which each in turn is degraded by each kind: the Dice is a mean over sequences, cases and
structures.

    python benchmarks/degraded.py -o FOLDER --seeds 0 1 2 --rows IntraInterTrainerNoAgents:900 IntraInterTrainer:600
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from paired import DATA, STOCK, Row, convert_myops, plan, report
from scipy.ndimage import zoom
from trainers.degradations import KINDS, OTHER_PATIENT
from workflow import Workplace, real_data

from rl_nnunet.evaluation.subset_prediction import SubsetPredictor, find_cases
from rl_nnunet.evaluation.trained_model import TrainedModel

SEVERITIES = (0.5, 1.0)
SHARE = 0.5
"""Of the training samples."""


def degraded_images(image: np.ndarray, other: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """Return the image (channels, z, y, x) as it is, and per kind and severity with each channel degraded in turn."""
    images = {"intact": [image]}
    for channel, scan in enumerate(image):
        generator = torch.Generator().manual_seed(seed)
        for kind, degrade in KINDS.items():
            for severity in SEVERITIES:
                changed = image.copy()
                changed[channel] = degrade(torch.from_numpy(scan), severity, generator).numpy()
                images.setdefault(f"{kind} {severity:g}", []).append(changed)
        changed = image.copy()
        changed[channel] = zoom(other[channel], np.divide(scan.shape, other[channel].shape), order=1)
        images.setdefault(OTHER_PATIENT, []).append(changed)
    return images


def evaluate(place: Workplace, model: Path) -> dict[str, float]:
    """Return the mean Dice of each kind and severity."""
    raw = place.path("nnUNet_raw", DATA["myops"].dataset)
    trained = TrainedModel(model, ("all",))
    predictor = SubsetPredictor(trained, place.device, 0.5, mirroring=False)
    cases = find_cases(raw / "imagesTs", raw / "labelsTs", trained.modalities, ".nii.gz")
    rows = []
    for index, case in enumerate(cases):
        image, properties, reference = predictor.read(case)
        other = predictor.read(cases[(index + 1) % len(cases)])[0]
        for kind, images in degraded_images(image, other, index).items():
            for changed in images:
                prediction = predictor.predict(changed, properties, trained.modalities)
                counts = predictor.count(reference, prediction).values()
                dice = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan for tp, fp, fn in counts]
                rows.append({"kind": kind, **dict(enumerate(dice))})
    return pd.DataFrame(rows).groupby("kind", sort=False).mean().mean(axis=1).to_dict()


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", required=True, help="TRAINER:STEPS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place, data = Workplace(arguments.output, arguments.device), DATA["myops"]
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_preprocessed", data.dataset, f"{STOCK}.json").is_file():
        convert_myops(place, real_data("myops"))
        plan(place, data)
    file = place.root / "degraded.csv"
    done = pd.read_csv(file).to_dict("records") if file.is_file() else []
    for seed in arguments.seeds:
        for name in arguments.rows:
            if any(each["row"] == name and each["seed"] == seed for each in done):
                continue
            trainer, _, steps = name.partition(":")
            row = Row(trainer, int(steps))
            model = place.train(
                data.dataset, row.trainer, row.plans, row.steps, seed, data.configuration, degraded=SHARE
            )
            dice = evaluate(place, model)
            damaged = [value for kind, value in dice.items() if kind != "intact"]
            done.append({"row": name, "seed": seed, **dice, "mean of all damages": float(np.mean(damaged))})
            pd.DataFrame(done).to_csv(file, index=False)
            print(done[-1], flush=True)
    print(report(pd.DataFrame(done), "mean of all damages"))


if __name__ == "__main__":
    main()
