"""Dice, tables and the harm of adding a modality, against what they are by hand and by brute force."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from rl_nnunet.evaluation.subset_report import REPORT_FILES, write_report
from rl_nnunet.evaluation.subsets import (
    COUNT_COLUMNS,
    all_subsets,
    dice_per_case,
    harm_of_adding,
    mean_per_subset,
    subset_name,
    subset_table,
)

MODALITIES = ("A", "B", "C")


def counts_of(*rows):
    """Counts of rows (subset, case, label, tp, fp, fn), in cases that have all modalities."""
    return pd.DataFrame([(row[0], *row) for row in rows], columns=list(COUNT_COLUMNS))


def random_counts(present, generator):
    """Counts of all subsets; `present` names the modalities of each case."""
    numbers = {}
    rows = []
    for subset in all_subsets(MODALITIES):
        for case, names in present.items():
            there = tuple(name for name in subset if name in names)
            for label in ("whole", "core") if there else ():
                key = case, there, label
                numbers.setdefault(key, generator.integers(0, 3, 3))
                rows.append((subset_name(subset), subset_name(there), case, label, *numbers[key]))
    return pd.DataFrame(rows, columns=list(COUNT_COLUMNS))


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_there_are_all_subsets_small_ones_first(number):
    modalities = [f"m{index}" for index in range(number)]
    subsets = all_subsets(modalities)
    assert len(set(subsets)) == len(subsets) == 2**number - 1
    assert [len(subset) for subset in subsets] == sorted(len(subset) for subset in subsets)
    assert all(list(subset) == sorted(subset, key=modalities.index) for subset in subsets)
    assert subsets[-1] == tuple(modalities)


@pytest.mark.parametrize(
    ("numbers", "nnunet", "field"),
    [
        ((3, 1, 2), 6 / 9, 6 / 9),
        ((0, 0, 0), math.nan, 1),  # both empty
        ((0, 4, 0), 0, 0),
        ((0, 0, 4), 0, 0),
        ((5, 0, 0), 1, 1),
    ],
)
def test_conventions(numbers, nnunet, field):
    counts = counts_of(("A", "case", "core", *numbers))
    assert dice_per_case(counts, "nnunet").squeeze() == pytest.approx(nnunet, nan_ok=True)
    assert dice_per_case(counts, "field").squeeze() == pytest.approx(field)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 4, 0), 1),  # a false tumor of 4 voxels vanishes: both are empty
        ((0, 5, 0), 0),  # 5 are enough
        ((3, 1, 2), 0),  # what is erased is lost to the reference, too
        ((4, 1, 2), 8 / 11),
    ],
)
def test_small_regions_are_erased_in_the_convention_of_the_field_only(numbers, expected):
    counts = counts_of(("A", "case", "core", *numbers), ("A", "case", "whole", *numbers))
    dice = dice_per_case(counts, "field", {"core": 5}).iloc[0]
    assert dice["core"] == pytest.approx(expected)
    assert dice["whole"] == pytest.approx(dice_per_case(counts, "field")["whole"].item())
    pd.testing.assert_frame_equal(dice_per_case(counts, "nnunet", {"core": 5}), dice_per_case(counts))


def test_means_leave_nan_out_and_end_in_the_mean_over_subsets():
    counts = counts_of(
        ("A", "one", "whole", 1, 0, 0), ("A", "one", "core", 0, 0, 0),
        ("A", "two", "whole", 1, 1, 1), ("A", "two", "core", 1, 1, 1),
        ("B", "one", "whole", 0, 1, 0), ("B", "one", "core", 0, 0, 0),
    )  # fmt: skip
    means = mean_per_subset(dice_per_case(counts))
    expected = {
        "A": {"whole": 0.75, "core": 0.5, "mean": 0.625, "cases": 2},
        "B": {"whole": 0, "core": math.nan, "mean": 0, "cases": 1},
        "mean": {"whole": 0.375, "core": 0.5, "mean": 0.3125, "cases": 2},
    }
    assert means.to_dict(orient="index") == {
        name: {key: pytest.approx(value, nan_ok=True) for key, value in row.items()} for name, row in expected.items()
    }
    assert subset_table(means, ("A", "B")).splitlines() == [
        "| A | B | whole | core | mean | cases |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| ● | ○ | 0.7500 | 0.5000 | 0.6250 | 2 |",
        "| ○ | ● | 0.0000 | – | 0.0000 | 1 |",
        "| **mean** |  | 0.3750 | 0.5000 | 0.3125 | 2 |",
    ]


# ---- the harm of adding a modality ---------------------------------------------------------------------------------


def harm_by_brute_force(counts, present, convention, tolerance):
    """Count pairs and worse pairs per added modality, voxel counts first."""
    table = {(row.subset, row.case, row.label): (row.tp, row.fp, row.fn) for row in counts.itertuples()}
    empty = math.nan if convention == "nnunet" else 1

    def dice(names, case, label):
        tp, fp, fn = table[subset_name([m for m in MODALITIES if m in names]), case, label]
        return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else empty

    result = {name: [0, 0] for name in MODALITIES}
    for case, names in present.items():
        for size in range(1, len(names)):
            for subset in itertools.combinations(sorted(names), size):
                for added in set(names) - set(subset):
                    changes = [
                        dice({*subset, added}, case, label) - dice(subset, case, label) for label in ("whole", "core")
                    ]
                    changes = [change for change in changes if not math.isnan(change)]
                    result[added][0] += bool(changes)
                    result[added][1] += bool(changes) and sum(changes) / len(changes) < -tolerance
    return result


@pytest.mark.parametrize("convention", ["nnunet", "field"])
@pytest.mark.parametrize("tolerance", [1e-6, 0.2])
def test_harm_is_that_of_all_pairs(convention, tolerance):
    present = {"one": "ABC", "two": "AC", "three": "B", "four": "ABC"}
    counts = random_counts(present, np.random.default_rng(1))
    harm = harm_of_adding(dice_per_case(counts, convention), MODALITIES, tolerance)
    expected = harm_by_brute_force(counts, present, convention, tolerance)
    assert harm.loc[list(MODALITIES), ["pairs", "worse"]].to_numpy().tolist() == [expected[m] for m in MODALITIES]
    totals = [sum(numbers) for numbers in zip(*expected.values(), strict=True)]
    assert harm.loc["any"].tolist() == [*totals, pytest.approx(totals[1] / totals[0])]
    assert 0 < totals[1] < totals[0]


def test_a_false_finding_is_harm_in_the_convention_of_the_field_only():
    """From "both empty" to a false finding: NaN to 0, or 1 to 0."""
    counts = counts_of(
        ("A", "case", "whole", 1, 0, 0), ("A", "case", "core", 0, 0, 0),
        ("A+B", "case", "whole", 1, 0, 0), ("A+B", "case", "core", 0, 1, 0),
    )  # fmt: skip
    rates = {c: harm_of_adding(dice_per_case(counts, c), ("A", "B")).loc["B", "rate"] for c in ("nnunet", "field")}
    assert rates == {"nnunet": 0, "field": 1}


def test_falls_within_the_tolerance_are_no_harm():
    counts = counts_of(("A", "case", "core", 2, 1, 0), ("A+B", "case", "core", 2, 2, 0))  # 0.8 to 0.667
    dice = dice_per_case(counts)
    assert harm_of_adding(dice, ("A", "B"), 0.13)["worse"].tolist() == [0, 1, 1]
    assert harm_of_adding(dice, ("A", "B"), 0.14)["worse"].tolist() == [0, 0, 0]


def test_without_pairs_there_is_no_rate():
    harm = harm_of_adding(dice_per_case(counts_of(("A", "case", "core", 1, 0, 0))), ("A",))
    assert harm["pairs"].tolist() == [0, 0]
    assert harm["rate"].isna().all()


# ---- files ---------------------------------------------------------------------------------------------------------


def test_report_has_both_conventions(tmp_path):
    counts = random_counts({"one": "ABC", "two": "AC"}, np.random.default_rng(2))
    text = write_report(tmp_path, counts, MODALITIES, {"core": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_FILES)
    assert text in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert text.count("| ● | ● | ● |") == 2
    assert "core of fewer than 2 voxels erased" in text
    cases = pd.read_csv(tmp_path / "dice_per_case.csv")
    assert list(cases) == ["subset", "present", "case", "convention", "whole", "core", "mean"]
    field = cases[cases["convention"] == "field"].set_index(["subset", "present", "case"])
    pd.testing.assert_frame_equal(field[["whole", "core"]], dice_per_case(counts, "field", {"core": 2}))
    means = pd.read_csv(tmp_path / "dice_per_subset.csv")
    assert len(means) == 2 * (2**3 - 1 + 1)
    assert pd.read_csv(tmp_path / "adding_a_modality.csv")["added"].tolist() == [*MODALITIES, "any"] * 2
