"""Nested cross-validation of classifiers by nnU-Net's own trainings, and what it makes of them: one table.

The folds are appended to ``splits_final.json``, where nnU-Net's folds stay what they are: each has a part ``val``, by
which `checkpoint_best.pth` is chosen, and a part ``test``, which nothing but the result is made of. A fold that is
trained is not trained again, and one that was killed goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from rl_nnunet.branches import channel_indices, read_dataset_json
from rl_nnunet.case_table import CASE_TABLE, read_case_table
from rl_nnunet.class_folds import Fold, nested_folds
from rl_nnunet.class_table import ClassLabels, read_classes
from rl_nnunet.command_queue import DONE, FAILED, Job, places, run_jobs
from rl_nnunet.environment import data_folder
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.classification_metrics import MEANS, classification_metrics
from rl_nnunet.evaluation.radiomics import case_features, fit_and_score, radiomics_classifiers
from rl_nnunet.files import new_file
from rl_nnunet.fold_training import FoldTraining

SPLITS_FILE = "splits_final.json"
MARK = "rl_nnunet_cross_validation"
"""Key of a fold that is one of a cross-validation, with the number of its folds."""
AGE = "age"
MAJORITY = "most frequent class"
SEED = 0


@dataclass(frozen=True)
class Study:
    """What is cross-validated.

    Parameters
    ----------
    dataset : str
        nnU-Net's name of the data set.
    configuration, plans : str
        Of the trainings.
    trainers : sequence of str
        Names of the trainers.
    device : str
        ``cuda``, ``cpu`` or ``mps``.
    """

    dataset: str
    configuration: str
    plans: str
    trainers: Sequence[str]
    device: str

    @property
    def raw(self) -> Path:
        """The data set in ``nnUNet_raw``."""
        return data_folder("nnUNet_raw") / self.dataset

    @property
    def preprocessed(self) -> Path:
        """The data set in ``nnUNet_preprocessed``."""
        return data_folder("nnUNet_preprocessed") / self.dataset

    def training(self, trainer: str, fold: int) -> FoldTraining:
        """Return the training of a fold."""
        return FoldTraining(self.dataset, self.configuration, trainer, self.plans, str(fold))

    def fold_folder(self, trainer: str, fold: int) -> Path:
        """Return the folder of a training."""
        return self.training(trainer, fold).folder

    def classes(self) -> ClassLabels:
        """Return the classes of the cases that are preprocessed."""
        plans = read_dataset_json(self.preprocessed / f"{self.plans}.json")
        entry = plans.get("configurations", {}).get(self.configuration)
        if entry is None:
            raise InputError(f"{self.plans} of {self.dataset} has no configuration {self.configuration}; correct -c.")
        files = (self.preprocessed / entry["data_identifier"]).glob("*.pkl")
        return read_classes(
            self.preprocessed, read_dataset_json(self.preprocessed / "dataset.json"), [file.stem for file in files]
        )


def prepare_folds(study: Study, classes: ClassLabels, folds: int) -> list[int]:
    """Return the numbers of the nested folds in ``splits_final.json``, where they are appended if they are new.

    Raises
    ------
    InputError
        If they cannot be made, or those that are there are not of the present cases.
    """
    file = study.preprocessed / SPLITS_FILE
    splits: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    numbers = [number for number, fold in enumerate(splits) if fold.get(MARK) == folds]
    if numbers:
        tested = sorted(case for number in numbers for case in splits[number]["test"])
        if tested != sorted(classes.labels):
            raise InputError(
                f"The folds of the cross-validation in {file} are not of the cases as they are now; remove the folds "
                f'with "{MARK}": {folds} there, and the results of those trainings.'
            )
        return numbers
    table = study.raw / CASE_TABLE
    patients = {row.case: row.patient for row in read_case_table(table)} if table.is_file() else None
    made: list[Fold] = nested_folds(classes.labels, classes.names, folds, patients)
    with new_file(file) as unfinished:
        unfinished.write_text(json.dumps([*splits, *({**fold, MARK: folds} for fold in made)], indent=4))
    return list(range(len(splits), len(splits) + folds))


def train_all(study: Study, folds: Sequence[int], at_once: int, *, allow_tqdm: bool) -> None:
    """Train all folds of all trainers that are not trained yet.

    Raises
    ------
    InputError
        After all others are done, if a training fails.
    """
    runs = [study.training(trainer, fold) for trainer in study.trainers for fold in folds]
    jobs = [_job(run) for run in runs if not _result_file(run).is_file()]
    with tqdm(total=len(jobs), desc="Training", disable=not allow_tqdm) as bar:

        def watch() -> None:
            bar.update(sum(job.state in (DONE, FAILED) for job in jobs) - bar.n)

        failed = run_jobs(jobs, places([study.device] * at_once), watch=watch)
    if failed:
        others = f" (Failed, too: {', '.join(job.name for job in failed[1:])}.)" if failed[1:] else ""
        raise InputError(
            f"The training of {failed[0].name} failed; it said at last: {failed[0].last_words()} (log: {failed[0].log})"
            + others
        )


def _result_file(run: FoldTraining) -> Path:
    return run.folder / "test" / "summary.json"


def _job(run: FoldTraining) -> Job:
    """Return the training of a fold, or what is left of it, and its validation with the best checkpoint."""

    def words() -> tuple[list[str], list[str]]:
        return run.words, ["--val_best", *(["--c"] if run.is_started() else [])]

    return Job(f"fold {run.fold} by {run.trainer}", words, run.output, _result_file(run).is_file)


def results_of_trainers(study: Study, folds: Sequence[int]) -> dict[str, list[dict[str, float]]]:
    """Return, per trainer, the metrics of the test part of each fold."""
    return {
        trainer: [json.loads(_result_file(study.training(trainer, fold)).read_text())["metrics"] for fold in folds]
        for trainer in study.trainers
    }


def results_of_baselines(
    classes: ClassLabels, splits: Sequence[Mapping[str, Sequence[str]]], features: pd.DataFrame
) -> dict[str, list[dict[str, float]]]:
    """Return the metrics of each fold by the most frequent class of its training cases and by radiomics.

    Parameters
    ----------
    classes : ClassLabels
        Of all cases.
    splits : sequence of mapping
        The nested folds. What a network needs to choose an epoch belongs to the training cases here.
    features : DataFrame
        A row a case; see `features_of_cases`.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for fold in splits:
        train, test = [*fold["train"], *fold["val"]], list(fold["test"])
        truth = [classes.labels[case] for case in test]
        counts = np.bincount([classes.labels[case] for case in train], minlength=len(classes.names))
        scores = {MAJORITY: np.tile(counts == counts.max(), (len(test), 1)).astype(float)}
        for name, classifier in radiomics_classifiers(SEED).items():
            scores[name] = fit_and_score(classifier, features, classes.labels, train, test)
        for name, values in scores.items():
            metrics = classification_metrics(truth, values, classes.names)
            found.setdefault(name, []).append({mean: getattr(metrics, mean) for mean in MEANS})
    return found


def features_of_cases(study: Study, cases: Sequence[str], *, allow_tqdm: bool) -> pd.DataFrame:
    """Return the radiomics of some cases, and their age if ``cases.csv`` states it: a row a case."""
    dataset_json = read_dataset_json(study.raw / "dataset.json")
    ending, channels = dataset_json["file_ending"], list(channel_indices(dataset_json))
    rows = {}
    for case in tqdm(sorted(cases), desc="Radiomics", disable=not allow_tqdm):
        images = {name: study.raw / "imagesTr" / f"{case}_{number:04d}{ending}" for number, name in enumerate(channels)}
        rows[case] = case_features(images, study.raw / "labelsTr" / f"{case}{ending}")
    table = study.raw / CASE_TABLE
    if table.is_file():
        for row in read_case_table(table):
            if row.case in rows and row.details.get(AGE):
                rows[row.case][AGE] = float(row.details[AGE])
    return pd.DataFrame.from_dict(rows, orient="index")


def format_table(results: Mapping[str, Sequence[Mapping[str, float | None]]]) -> str:
    """Return a table in Markdown: mean and standard deviation (of the sample) over the folds, as the paper has it."""
    lines = ["| | " + " | ".join(name.replace("_", " ") for name in MEANS) + " |", "|---|" + "---|" * len(MEANS)]
    for name, folds in results.items():
        cells = []
        for metric in MEANS:
            values = np.array([np.nan if fold[metric] is None else fold[metric] for fold in folds], float)
            known = values[~np.isnan(values)]
            deviation = f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else ""
            cells.append(f"{known.mean():.3f}{deviation}" if len(known) else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
