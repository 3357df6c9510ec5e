"""The tables and notices that a converter prints at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from rl_nnunet.dataset_conversion.case_conversion import CaseReport

# From this ratio of slice distance to pixel size on, the axis along which slices are stacked matters.
ANISOTROPY = 2.0
AXES = "xyz"


def format_summary(
    reports: Sequence[CaseReport], branches: Sequence[str], structures: Sequence[str], grouped_by: str = "branch"
) -> str:
    """Return the tables per group of cases and per structure, and the notices, as text.

    Parameters
    ----------
    reports : sequence of CaseReport
        The reports of all cases.
    branches : sequence of str
        Names of the branches, in order.
    structures : sequence of str
        Names of the labels or regions, without background.
    grouped_by : str
        What the groups of the cases are: branches, or what the cases state as their strata.
    """
    written = [report for report in reports if report.written]
    found = {report.case.group for report in written}
    groups = [*(branch for branch in branches if branch in found), *sorted(found - set(branches))]
    parts = [_group_table(written, groups, grouped_by), _label_table(written, groups, structures)]
    notices = _notices(reports)
    return "\n\n".join(["", *parts, *(["\n".join(f"Notice: {notice}" for notice in notices)] if notices else [])])


def _group_table(reports: Sequence[CaseReport], groups: Sequence[str], grouped_by: str) -> str:
    rows = []
    for group in groups:
        members = [report for report in reports if report.case.group == group]
        tests = sum(report.case.is_test for report in members)
        orientations = Counter(report.found_orientation for report in members)
        size = pd.DataFrame([report.size for report in members]).median()
        spacing = pd.DataFrame([report.spacing for report in members]).median()
        rows.append(
            {
                grouped_by: group,
                "train": len(members) - tests,
                "test": tests,
                "median size": "x".join(f"{extent:g}" for extent in size),
                "median spacing (mm)": "x".join(f"{extent:.3g}" for extent in spacing),
                "orientations found": ", ".join(f"{code} ({count})" for code, count in orientations.most_common()),
            }
        )
    return pd.DataFrame(rows).to_string(index=False)


def _label_table(reports: Sequence[CaseReport], groups: Sequence[str], structures: Sequence[str]) -> str:
    """Return the label table; means per group show at a glance if one branch has a wrong voxel size."""
    # A pair of test scans carries the label of a scan that is counted already.
    labeled = [report for report in reports if report.case.label is not None and not report.case.resample]
    groups = [group for group in groups if any(report.case.group == group for report in labeled)]
    rows = []
    for name in structures:
        having = [report for report in labeled if name in report.milliliters]
        row = {
            "label": name,
            "in cases": f"{len(having)} of {len(labeled)}",
            "mean volume (ml)": _mean_volume(having, name),
        }
        for group in groups if len(groups) > 1 else ():
            row[f"{group} (ml)"] = _mean_volume([r for r in having if r.case.group == group], name)
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)


def _mean_volume(reports: Sequence[CaseReport], name: str) -> str:
    return f"{fmean(report.milliliters[name] for report in reports):.3g}" if reports else "-"


def _notices(reports: Sequence[CaseReport]) -> list[str]:
    """Return every notice once, with the cases that it is about."""
    cases: dict[str, list[str]] = {}
    for report in reports:
        for notice in report.notices:
            cases.setdefault(notice, []).append(report.case.identifier)
    notices = [
        f"{notice}: {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "") + "."
        for notice, names in cases.items()
    ]
    axes = Counter(_slice_axis(report.spacing) for report in reports if report.written)
    del axes[""]
    if len(axes) > 1:
        found = ", ".join(f"{axis} in {count}" for axis, count in axes.most_common())
        notices.append(
            f"the thick slices are stacked along different axes ({found} cases), which nnU-Net cannot plan well; "
            "convert again with --orientation keep if that is better."
        )
    return notices


def _slice_axis(spacing: Sequence[float]) -> str:
    """Return the axis along which thick slices are stacked, or "" where voxels are about cubic."""
    return AXES[spacing.index(max(spacing))] if max(spacing) > ANISOTROPY * min(spacing) else ""
