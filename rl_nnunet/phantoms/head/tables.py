"""The tables beside BraTS's images: survival with what it depends on, and the names that cases have had."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rl_nnunet.phantoms.head.cases import CLINICAL_STREAM, stream
from rl_nnunet.phantoms.head.layout import HeadJob
from rl_nnunet.phantoms.head.write import WrittenHeadCase

# File names of the tables, that of the survival with its columns.
SURVIVAL_FILES = {
    2018: ("survival_data.csv", ("BraTS18ID", "Age", "Survival", "ResectionStatus")),
    2019: ("survival_data.csv", ("BraTS19ID", "Age", "Survival", "ResectionStatus")),
    2020: ("survival_info.csv", ("Brats20ID", "Age", "Survival_days", "Extent_of_Resection")),
}
EVALUATION_FILE = "survival_evaluation.csv"
MAPPING_FILE, VALIDATION_MAPPING_FILE = "name_mapping.csv", "name_mapping_validation_data.csv"

# Median survival in days at the typical age (years) and volume of the core (ml), and what it depends on how much.
TYPICAL_DAYS, TYPICAL_AGE, TYPICAL_CORE_ML = 400.0, 60.0, 30.0
AGE_EFFECT, CORE_EFFECT, UNEXPLAINED_SD = 0.02, 0.7, 0.2
# Of every so many patients, this one has no survival data, and in 2020 this one is alive.
EVERY_NINTH_MISSING, EVERY_TWELFTH_ALIVE = 5, 3


@dataclass(frozen=True)
class ClinicalData:
    """What is known about a patient besides the images.

    Parameters
    ----------
    age : float
        In years.
    survival_days : int
        Since the images were taken.
    resection : str
        ``GTR`` (gross total), ``STR`` (subtotal) or ``NA``.
    """

    age: float
    survival_days: int
    resection: str


def clinical_data(case: WrittenHeadCase) -> ClinicalData:
    """Return the clinical data of a case: who is old or has a large tumor core lives shorter, apart from chance."""
    rng = stream(case.job, CLINICAL_STREAM)
    age = float(np.clip(rng.normal(60, 12), 19, 88))
    size_effect = -CORE_EFFECT * np.log((case.core_ml + 1) / (TYPICAL_CORE_ML + 1))
    log_ratio = size_effect - AGE_EFFECT * (age - TYPICAL_AGE) + rng.normal(0, UNEXPLAINED_SD)
    days = int(np.clip(np.rint(TYPICAL_DAYS * np.exp(log_ratio)), 5, 2000))
    return ClinicalData(round(age, 3), days, str(rng.choice(["GTR", "STR", "NA"], p=[0.5, 0.05, 0.45])))


def write_tables(root: Path, written: list[WrittenHeadCase]) -> None:
    """Write the tables of a year below `root`, whose folders exist."""
    year = written[0].job.year
    if year not in SURVIVAL_FILES:
        return
    for training in (True, False):
        cases = [case for case in written if case.job.training is training]
        if cases:
            folder = root / cases[0].job.top_folder
            _write_survival(folder, cases) if training else _write_evaluation(folder, cases)
            _write_mapping(folder, [case.job for case in cases])


def _write_survival(folder: Path, cases: list[WrittenHeadCase]) -> None:
    name, columns = SURVIVAL_FILES[cases[0].job.year]
    rows = []
    for case in cases:
        if case.job.grade == "HGG" and case.job.number % 9 != EVERY_NINTH_MISSING:
            clinical = clinical_data(case)
            alive = case.job.year == 2020 and case.job.number % 12 == EVERY_TWELFTH_ALIVE
            days = f"ALIVE ({clinical.survival_days} days later)" if alive else clinical.survival_days
            rows.append((case.job.name, f"{clinical.age:.3f}", days, clinical.resection))
    _write_csv(folder / name, columns, rows)


def _write_evaluation(folder: Path, cases: list[WrittenHeadCase]) -> None:
    columns = (f"BraTS{cases[0].job.year % 100}ID", "Age", "ResectionStatus")
    # BraTS evaluates the survival of patients with gross total resection only.
    rows = [(case.job.name, f"{clinical_data(case).age:.3f}", "GTR") for case in cases if case.job.grade == "HGG"]
    _write_csv(folder / EVALUATION_FILE, columns, rows)


def _write_mapping(folder: Path, jobs: list[HeadJob]) -> None:
    year, training = jobs[0].year, jobs[0].training
    if year == 2018 or (year == 2019 and not training):
        return
    # The phantoms were in no earlier year's data, and in no archive.
    others = ["BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID"]
    others += ["BraTS_2019_subject_ID"] if year == 2020 else []
    columns = [*others, f"BraTS_{year}_subject_ID"]
    rows = [["NA"] * len(others) + [job.name] for job in jobs]
    if training:
        columns = ["Grade", *columns]
        rows = [[job.grade, *row] for job, row in zip(jobs, rows, strict=True)]
    _write_csv(folder / (MAPPING_FILE if training else VALIDATION_MAPPING_FILE), columns, rows)


def _write_csv(path: Path, columns: tuple | list, rows: list) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
