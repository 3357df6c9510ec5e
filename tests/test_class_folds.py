"""Folds by class: complete, disjoint, balanced, one side per patient; and what cannot be split."""

import pytest

from rl_nnunet.class_folds import nested_folds, patients_per_class, possible_folds, stratified_folds
from rl_nnunet.errors import InputError

NAMES = ("few", "many")
LABELS = {f"case{number:02d}": int(number >= 6) for number in range(30)}


def count(part, label):
    return sum(LABELS[case] == label for case in part)


def test_every_case_is_validated_once_and_classes_are_balanced():
    folds = stratified_folds(LABELS, NAMES, 5)
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(LABELS)
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == sorted(LABELS)
        assert 1 <= count(fold["val"], 0) <= 2
        assert 4 <= count(fold["val"], 1) <= 6
    assert folds == stratified_folds(dict(reversed(LABELS.items())), NAMES, 5)


def test_cases_of_a_patient_stay_on_one_side():
    patients = {case: f"patient{number // 2}" for number, case in enumerate(LABELS)}
    for fold in stratified_folds(LABELS, NAMES, 3, patients):
        assert not {patients[case] for case in fold["train"]} & {patients[case] for case in fold["val"]}


def test_nested_folds_have_three_parts_of_every_class():
    folds = nested_folds(LABELS, NAMES, 5)
    assert sorted(case for fold in folds for case in fold["test"]) == sorted(LABELS)
    for fold in folds:
        parts = [fold["train"], fold["val"], fold["test"]]
        assert sorted(case for part in parts for case in part) == sorted(LABELS)
        assert all(count(part, label) for part in parts for label in (0, 1))
        assert len(fold["val"]) == pytest.approx(len(LABELS) * 0.8 * 0.2, abs=2)


def test_the_smallest_class_limits_the_inner_folds():
    labels = {**dict.fromkeys("abc", 0), **dict.fromkeys("defghi", 1)}
    for fold in nested_folds(labels, NAMES, 3):
        assert all({labels[case] for case in fold[part]} == {0, 1} for part in ("train", "val", "test"))


def test_a_class_with_too_few_patients_is_refused():
    with pytest.raises(InputError, match="The class few has 6 patients, which do not suffice for 7 folds"):
        stratified_folds(LABELS, NAMES, 7)
    with pytest.raises(InputError, match="The class few has 1 patient, "):
        stratified_folds(LABELS, NAMES, 2, dict.fromkeys(list(LABELS)[:6], "one"))


def test_patients_of_each_class_are_counted_once():
    assert patients_per_class(LABELS, NAMES) == [6, 24]
    assert patients_per_class(LABELS, NAMES, {case: case[:5] for case in LABELS}) == [1, 3]


def test_as_many_folds_as_the_smallest_class_has_patients():
    assert possible_folds(LABELS, NAMES, 5) == (stratified_folds(LABELS, NAMES, 5), [])
    pairs = {case: f"patient{number // 2}" for number, case in enumerate(LABELS)}
    folds, notices = possible_folds(LABELS, NAMES, 5, pairs)
    assert folds == stratified_folds(LABELS, NAMES, 3, pairs)
    assert notices == ["there are 3 folds in the place of 5, as the patients do not suffice for more."]
    folds, (notice,) = possible_folds(LABELS, NAMES, 5, dict.fromkeys(list(LABELS)[:6], "one"))
    assert folds == []
    assert "train on all cases" in notice


def test_patients_of_several_classes_may_leave_fewer_folds():
    """Each class has four of six patients; of four folds, two would have one patient, who has two of three classes."""
    patients = {
        f"{patient}{label}": str(patient) for patient in range(6) for label in "abc" if "abc"[patient % 3] != label
    }
    labels = {case: "abc".index(case[1]) for case in patients}
    assert patients_per_class(labels, ("a", "b", "c"), patients) == [4, 4, 4]
    folds, notices = possible_folds(labels, ("a", "b", "c"), 5, patients)
    assert len(folds) == 3
    assert all({labels[case] for case in part} == {0, 1, 2} for fold in folds for part in fold.values())
    assert "3 folds in the place of 5" in notices[0]
