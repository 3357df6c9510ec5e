"""Every fold can be trained: its training part has every branch, however few patients a branch has."""

import itertools
import json
import random
from collections import defaultdict

import pytest

from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.dataset_conversion.splits import make_splits
from rl_nnunet.errors import InputError


def unpaired(ct, mr, shared=0):
    """Return CT and MR cases; the first patients of both are the same."""
    return [
        *(Case(f"CT_{i}", ("CT",), f"p{i}", {}) for i in range(ct)),
        *(Case(f"MR_{i}", ("MR",), f"p{i}" if i < shared else f"q{i}", {}) for i in range(mr)),
    ]


def check(cases, folds):
    """Return the splits and notices, after checking what must hold of all of them."""
    splits, notices = make_splits(cases, folds)
    assert (splits, notices) == make_splits(cases[::-1], folds)
    known = {case.identifier: case for case in cases}
    assert 1 <= len(splits) <= folds
    for split in splits:
        assert split["val"]
        assert sorted(split["train"] + split["val"]) == sorted(known)
        train, val = ([known[name] for name in split[part]] for part in ("train", "val"))
        assert {b for case in train for b in case.branches} == {b for case in cases for b in case.branches}
        assert not {case.patient for case in train} & {case.patient for case in val}
    return splits, notices


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_number_of_patients_of_two_branches(folds):
    for ct, mr in itertools.product(range(7), repeat=2):
        for shared in range(min(ct, mr) + 1):
            # The only patient of a branch is never validated.
            kept = {f"p{0}" if shared else name for name, count in (("p0", ct), ("q0", mr)) if count == 1}
            movable = max(ct - ("p0" in kept), mr - ("q0" in kept or (shared > 0 and "p0" in kept)))
            if movable < 1:
                continue
            splits, _ = check(unpaired(ct, mr, shared), folds)
            assert len(splits) == min(folds, movable), (ct, mr, shared)


def test_random_branches_visits_and_strata():
    draw = random.Random(0)
    for _ in range(150):
        cases = [
            Case(f"{patient}_{visit}", branches, str(patient), {}, stratum=draw.choice([None, "HGG", "LGG"]))
            for patient in range(draw.randint(2, 7))
            for visit in range(draw.randint(1, 3))
            if (branches := tuple(name for name in "ABC" if draw.random() < 0.5))
        ]
        patients = defaultdict(set)
        for case in cases:
            for branch in case.branches:
                patients[branch].add(case.patient)
        only = {next(iter(names)) for names in patients.values() if len(names) == 1}
        if all(case.patient in only for case in cases):
            with pytest.raises(InputError, match="cannot be split"):
                make_splits(cases, 5)
        else:
            check(cases, 5)


def test_notices():
    assert check(unpaired(10, 5), 5)[1] == []
    assert check(unpaired(6, 2), 5)[1] == [
        "in 3 of 5 folds, the validation part has no case of MR, as only 2 patients have it."
    ]
    assert check(unpaired(3, 1), 5)[1] == [
        "only 3 folds instead of 5, as no branch has patients for more.",
        "q0, the only patient with MR, is in the training part of every fold, so that MR is never validated.",
    ]


def test_splits_of_overlapping_patients():
    """As in MS-CMRSeg: patients 13 to 32 have bSSFP, 24 to 45 LGE."""
    cases = [
        Case(f"{branch}_{number}", (branch,), str(number), {})
        for branch, numbers in (("bSSFP", range(13, 33)), ("LGE", range(24, 46)))
        for number in numbers
    ]
    splits, notices = check(cases, 5)
    assert notices == []
    for split in splits:
        for branch in ("bSSFP", "LGE"):
            assert 3 <= sum(name.startswith(branch) for name in split["val"]) <= 5
    assert sorted(name for split in splits for name in split["val"]) == sorted(case.identifier for case in cases)


def test_few_cases_of_a_branch_at_the_command_line(run_unpaired, write_volumes, raw):
    folder = write_volumes(*(f"ct/p{n}" for n in range(6)), *(f"mr/q{n}" for n in range(2)))
    branches = [
        f"{name}={folder}/{name.lower()}/{{case}}.nii:{folder}/{name.lower()}/{{case}}_label.nii"
        for name in ("CT", "MR")
    ]
    outcome = run_unpaired("--branch", branches[0], "--branch", branches[1], "--labels", "heart=1")
    assert outcome.code == 0, outcome.err
    assert "Notice: in 3 of 5 folds, the validation part has no case of MR, as only 2 patients" in outcome.out
    splits = json.loads((raw / "Dataset502_Test/splits_final.json").read_text())
    assert len(splits) == 5
    assert all(any(name.startswith("MR") for name in split["train"]) for split in splits)
