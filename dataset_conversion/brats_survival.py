"""The survival classes of BraTS: short below 10 months, mid from 10 to 15, long above 15.

The tables state days. A month is a twelfth of a year of 365.25 days, which gives the numbers of patients that are
stated for the tables of 2017 and 2020 (65, 43, 55 and 91, 60, 85).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rl_nnunet.class_table import ClassRow
from rl_nnunet.dataset_conversion.cases import Case
from rl_nnunet.errors import InputError

SURVIVAL_CLASSES = ("short", "mid", "long")
DAYS_PER_MONTH = 365.25 / 12
SHORT_BELOW, LONG_ABOVE = 10, 15
"""In months."""
GROSS_TOTAL_RESECTION = "GTR"


def survival_class(days: float) -> str:
    """Return the class of a survival in days."""
    months = days / DAYS_PER_MONTH
    if months < SHORT_BELOW:
        return SURVIVAL_CLASSES[0]
    return SURVIVAL_CLASSES[2] if months > LONG_ABOVE else SURVIVAL_CLASSES[1]


def cases_with_survival(
    cases: Sequence[Case], *, gross_total_resection_only: bool = False
) -> tuple[list[Case], list[ClassRow], list[str]]:
    """Return the cases to convert, stratified by class, the class of each, and a notice for each that is left out.

    A training case whose survival is not known is left out, and so is one that was alive when it was last seen: how
    long it lived is not known. Test cases stay; those with a known survival have a class, too.

    Parameters
    ----------
    cases : sequence of Case
        Training and test cases, with BraTS's details.
    gross_total_resection_only : bool
        Leave out training cases without one; BraTS evaluates on such patients only.

    Raises
    ------
    InputError
        If no training case is left.
    """
    kept, rows, notices = [], [], []
    for case in cases:
        reason = _reason_to_leave_out(case, gross_total_resection_only)
        if reason and not case.is_test:
            notices.append(f"{case.identifier} is left out: {reason}.")
            continue
        if reason:
            kept.append(case)
            continue
        label = survival_class(float(case.details["survival_days"]))
        rows.append(ClassRow(case.identifier, label, "test" if case.is_test else "train"))
        kept.append(replace(case, stratum=label))
    if all(case.is_test for case in kept):
        raise InputError(
            "No training case has a survival that can be used; BraTS 2018 to 2020 have a table of it "
            "(survival_data.csv, survival_info.csv), which must lie in the folder of -i."
        )
    return kept, rows, notices


def _reason_to_leave_out(case: Case, gross_total_resection_only: bool) -> str:
    days, resection = case.details.get("survival_days", ""), case.details.get("resection", "")
    if not days:
        return "no table states its survival"
    if case.details.get("survival_censored") == "True":
        return f"it was alive after {days} days, so that its survival is not known"
    if gross_total_resection_only and resection != GROSS_TOTAL_RESECTION:
        return f"its resection is {resection or 'not stated'}, not {GROSS_TOTAL_RESECTION}"
    return ""
