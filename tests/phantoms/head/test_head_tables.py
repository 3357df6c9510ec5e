import csv
import re
from dataclasses import replace

import numpy as np

from rl_nnunet.phantoms.head.config import HeadPhantomConfig
from rl_nnunet.phantoms.head.layout import plan_head_jobs
from rl_nnunet.phantoms.head.tables import clinical_data, write_tables
from rl_nnunet.phantoms.head.write import WrittenHeadCase


def written(cases, year=2020):
    rng = np.random.default_rng(0)
    jobs = plan_head_jobs(year, cases, 0, 0, HeadPhantomConfig())
    return [WrittenHeadCase(job, (1, 1, 1), (1.0, 1.0, 1.0), "LPS", rng.uniform(5, 80)) for job in jobs]


def survival_rows(folder, cases):
    (folder / "MICCAI_BraTS2020_TrainingData").mkdir()
    write_tables(folder, cases)
    with (folder / "MICCAI_BraTS2020_TrainingData" / "survival_info.csv").open() as file:
        return {row["Brats20ID"]: row for row in csv.DictReader(file)}


def test_a_larger_core_means_a_shorter_life():
    for case in written(10):
        small, large = (clinical_data(replace(case, core_ml=volume)) for volume in (10.0, 60.0))
        assert small.age == large.age
        assert small.survival_days > 1.5 * large.survival_days


def test_survival_can_be_learnt_from_core_and_age_but_not_perfectly():
    cases = written(200)
    clinical = [clinical_data(case) for case in cases]
    features = np.array([[1, np.log(case.core_ml), data.age] for case, data in zip(cases, clinical, strict=True)])
    target = np.log([data.survival_days for data in clinical])
    weights, *_ = np.linalg.lstsq(features, target, rcond=None)
    explained = 1 - np.var(target - features @ weights) / np.var(target)
    assert 0.7 < explained < 0.99
    assert weights[1] < -0.3
    assert weights[2] < -0.01


def test_some_high_grade_cases_have_no_survival_and_some_are_alive(tmp_path):
    cases = written(60)
    table = survival_rows(tmp_path, cases)
    grades = {case.job.name: case.job.grade for case in cases}
    assert {grades[name] for name in table} == {"HGG"}
    assert 30 < len(table) < list(grades.values()).count("HGG")
    days = [row["Survival_days"] for row in table.values()]
    alive = [value for value in days if re.fullmatch(r"ALIVE \(\d+ days later\)", value)]
    assert 1 <= len(alive) < 0.2 * len(days)
    assert all(5 <= int(value) <= 2000 for value in days if value not in alive)
    assert {row["Extent_of_Resection"] for row in table.values()} == {"GTR", "STR", "NA"}
