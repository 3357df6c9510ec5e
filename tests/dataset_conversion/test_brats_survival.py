"""``rl_nnunet_convert_brats --task survival``: classes of days, who is left out, and what is written."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from rl_nnunet.class_table import read_class_table
from rl_nnunet.dataset_conversion.brats_survival import SURVIVAL_CLASSES, cases_with_survival, survival_class
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.errors import InputError

DATA = Path(os.environ.get("RL_NNUNET_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("days", "label"), [(0, "short"), (304, "short"), (305, "mid"), (456, "mid"), (457, "long"), (1767, "long")]
)
def test_classes_of_days(days, label):
    """Ten months are 304.4 days, fifteen 456.6."""
    assert survival_class(days) == label


@pytest.mark.parametrize(
    ("name", "column", "counts"),
    [
        ("brats17_survival_data.csv", "Survival", (65, 43, 55)),
        ("brats20_survival_info.csv", "Survival_days", (91, 60, 85)),
    ],
)
def test_classes_of_the_real_tables(name, column, counts):
    file = DATA / "survival" / name
    if not file.is_file():
        pytest.skip(f"there is no {file}: set RL_NNUNET_DATA")
    with file.open() as table:
        found = Counter(survival_class(float(row[column])) for row in csv.DictReader(table))
    assert tuple(found[label] for label in SURVIVAL_CLASSES) == counts


def case(name, days="", censored="False", resection="GTR", is_test=False):
    details = {"survival_days": days, "survival_censored": censored, "resection": resection}
    return Case(name, ("MR",), name, {}, is_test=is_test, details=details)


CASES = [
    case("a", "100"),
    case("b", "400", resection="STR"),
    case("c", "361", "True"),
    case("d"),
    case("e", "900", resection=""),
    case("f", "50", is_test=True),
    case("g", is_test=True),
]


def test_who_is_left_out_is_named():
    kept, rows, notices = cases_with_survival(CASES)
    assert [one.identifier for one in kept] == ["a", "b", "e", "f", "g"]
    assert [(row.case, row.label, row.split) for row in rows] == [
        ("a", "short", "train"), ("b", "mid", "train"), ("e", "long", "train"), ("f", "short", "test"),
    ]  # fmt: skip
    assert notices == [
        "c is left out: it was alive after 361 days, so that its survival is not known.",
        "d is left out: no table states its survival.",
    ]
    assert [one.stratum for one in kept] == ["short", "mid", "long", "short", None]


def test_gross_total_resection_only():
    kept, _, notices = cases_with_survival(CASES, gross_total_resection_only=True)
    assert [one.identifier for one in kept if not one.is_test] == ["a"]
    assert "b is left out: its resection is STR, not GTR." in notices
    assert "e is left out: its resection is not stated, not GTR." in notices
    with pytest.raises(InputError, match="No training case has a survival that can be used"):
        cases_with_survival(CASES[1:], gross_total_resection_only=True)


def test_the_command_writes_a_classification_data_set(run_brats, raw, brats_phantom):
    outcome = run_brats(brats_phantom(2020), "--task", "survival")
    assert outcome.code == 0, outcome.err
    folder = raw / "Dataset503_BraTS"
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert dataset_json["rl_nnunet"]["classes"] == list(SURVIVAL_CLASSES)
    rows = {row.case for row in read_class_table(folder / "classification.csv") if row.split == "train"}
    images = {file.name[:-12] for file in (folder / "imagesTr").glob("*_0000.nii.gz")}
    assert rows == images
    named = {line.split()[1] for line in outcome.out.splitlines() if "is left out: " in line}
    assert len(named) + len(images) == 5
    assert not named & images


def test_the_option_alone_is_refused(run_brats, brats_phantom, assert_refused_in_one_sentence):
    assert_refused_in_one_sentence(run_brats(brats_phantom(2020), "--gross_total_resection"), "--task survival")


def test_a_year_without_a_table_is_refused(run_brats, raw, brats_phantom, assert_refused_in_one_sentence):
    outcome = run_brats(brats_phantom(2021), "--task", "survival")
    assert_refused_in_one_sentence(outcome, "No training case has a survival", "BraTS 2018 to 2020")
    assert not list(raw.iterdir())
