"""Adversarial policy-gradient augmentation of a classifier of radiographs, against what a user would do first.

The data are 28 x 28 chest radiographs (PneumoniaMNIST; normal or pneumonia, unbalanced), found through
``RL_NNUNET_DATA``; the 524 of its validation part are the test here. 2D, squares of 32 pixels, the encoder of
``ClassificationSmallPlanner``. Every row trains a second time on each batch of the second half of the training: on the
same images (``APGAClassificationTrainerNone``, equal steps), on images with random rectangles erased, on what Grad-CAM
or what a policy finds important. A finished run is not repeated, and a stopped one goes on.

    python benchmarks/radiographs.py -o FOLDER --shots 100 --seeds 0 1 2 3 4
    python benchmarks/radiographs.py -o FOLDER --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from workflow import Results, Workplace, markdown, real_data

DATASET = "Dataset551_Radiographs"
PLANS, CONFIGURATION = "ClassificationSmallPlans", "2d"
CLASSES = ("normal", "pneumonia")
PARTS = {"train": "train", "val": "test"}
"""Of the file, and what they are to us."""
WATCHED = 10
"""Training images of each class that the epochs' balanced accuracy is of; nothing is chosen by it."""
ROWS = tuple(f"APGAClassificationTrainer{kind}" for kind in ("None", "Cutout", "GradCAM", "Paper", ""))


def convert(place: Workplace, file: Path) -> None:
    """Write the images as PNG in a folder of each class, convert and plan."""
    data = np.load(file)
    for part, name in PARTS.items():
        for folder in CLASSES:
            (place.root / "images" / name / folder).mkdir(parents=True, exist_ok=True)
        for index, (image, label) in enumerate(zip(data[f"{part}_images"], data[f"{part}_labels"], strict=True)):
            Image.fromarray(image).save(place.root / "images" / name / CLASSES[label.item()] / f"{name}{index:04d}.png")
    identifier = DATASET[7:10]
    place.command(
        "rl_nnunet_convert_images_2d", "-i", str(place.root / "images"), "-d", identifier, "-n", DATASET[11:],
        "--overwrite",
    )  # fmt: skip
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", identifier, "-pl", "ClassificationSmallPlanner", "-c", CONFIGURATION,
        "-npfp", "1", "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip


def classes_of(place: Workplace, part: str) -> pd.Series:
    """Return the class of every image of a part, by its case."""
    table = pd.read_csv(place.path("nnUNet_raw", DATASET, "classification.csv"), index_col="case")
    return table.loc[table["split"] == part, "label"]


def fold_of(place: Workplace, shots: int | None, seed: int) -> str:
    """Return the fold that trains on some images of each class, drawn by the seed; it is added where it is new."""
    labels, generator = classes_of(place, "train"), np.random.default_rng(seed)
    chosen = [generator.permutation(labels.index[labels == name])[:shots] for name in CLASSES]
    fold = {"train": sorted(np.concatenate(chosen)), "val": sorted(np.concatenate([c[:WATCHED] for c in chosen]))}
    file = place.path("nnUNet_preprocessed", DATASET, "splits_final.json")
    folds = json.loads(file.read_text())
    if fold not in folds:
        folds.append(fold)
        file.write_text(json.dumps(folds))
    return str(folds.index(fold))


def measure(place: Workplace, trainer: str, shots: int | None, steps: int, seed: int) -> dict[str, float]:
    """Train and classify the test images; return balanced accuracy and area under the ROC curve."""
    fold = fold_of(place, shots, seed)
    model = place.train(DATASET, trainer, PLANS, steps, seed, CONFIGURATION, fold)
    table = model / f"fold_{fold}" / "test.csv"
    if not table.is_file():
        place.command(
            "rl_nnunet_classify", "-i", str(place.path("nnUNet_raw", DATASET, "imagesTs")), "-o", str(table), "-m",
            str(model), "-f", fold, "-device", place.device, "-chk", "checkpoint_final.pth",
        )  # fmt: skip
    predicted, true = pd.read_csv(table, index_col="case"), classes_of(place, "test")
    predicted = predicted.loc[true.index]
    return {
        "balanced accuracy": balanced_accuracy_score(true, predicted.iloc[:, 0]),
        "AUC": roc_auc_score(true == CLASSES[1], predicted[f"probability_{CLASSES[1]}"]),
    }


def interval(values: pd.Series) -> float:
    """Return half the width of the 95 % confidence interval of the mean over the seeds, by Student's t."""
    return (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--shots", type=int, help="training images of each class; default: all there are")
    parser.add_argument("--steps", type=int, default=600, help="on original images; half as many follow them on others")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training images, weights and batches")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    if not place.path("nnUNet_preprocessed", DATASET, "splits_final.json").is_file():
        convert(place, real_data("pneumonia") / "pneumonia_trainval.npz")
    results = Results(place.root / "classification.csv")
    for seed in arguments.seeds:
        for row in arguments.rows:
            run = {"row": row, "shots": arguments.shots or "all", "steps": arguments.steps, "seed": seed}
            if not results.has(run):
                results.add(run, [measure(place, row, arguments.shots, arguments.steps, seed)])
                print(results.rows[-1], flush=True)
    keys, table = ["row", "shots", "steps"], results.table.astype({"shots": str})
    groups = table.groupby(keys, sort=False)[["balanced accuracy", "AUC"]]
    table = pd.concat([groups.mean(), groups.agg(interval).add_suffix(" ±")], axis=1)
    table.index = [f"{row}, {shots} shots, {len(groups.get_group((row, shots, steps)))} seeds"
                   for row, shots, steps in table.index]  # fmt: skip
    print(markdown(table))


if __name__ == "__main__":
    main()
