"""What earlier runs left in ``nnUNet_preprocessed`` that is not of the data as they are now."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LABELS_FOLDER = "gt_segmentations"


def remove_old_labels(folder: Path, labels: Mapping[str, Path], ending: str) -> None:
    """Remove the copied labels that are not those of the raw data any more.

    nnU-Net copies a label only if it is newer than its copy: one that was restored from a backup would not be, and
    models would be judged by the old one.

    Parameters
    ----------
    folder : Path
        The data set in ``nnUNet_preprocessed``.
    labels : mapping of str to Path
        The label of each case in the raw data.
    ending : str
        ``file_ending`` of the data set.
    """
    for copy in (folder / LABELS_FOLDER).glob(f"*{ending}"):
        label = labels.get(copy.name[: -len(ending)])
        if label is None or not filecmp.cmp(label, copy):
            copy.unlink()


def say_old_data(folder: Path, files: Mapping[str, list[Path]]) -> None:
    """Say which preprocessed folders are of other cases than those of the data set, or of older files.

    Parameters
    ----------
    folder : Path
        The data set in ``nnUNet_preprocessed``.
    files : mapping of str to list of Path
        Images and label of each case in the raw data.
    """
    newest = {case: max(path.stat().st_mtime for path in paths) for case, paths in files.items()}
    for name in sorted(_data_identifiers(folder)):
        there = {file.stem: file.stat().st_mtime for file in (folder / name).glob("*.pkl")}
        if not there:
            continue
        differences = {
            "too many": sorted(there.keys() - newest.keys()),
            "missing": sorted(newest.keys() - there.keys()),
            "older than their files": sorted(
                case for case in there.keys() & newest.keys() if there[case] < newest[case]
            ),
        }
        said = [f"{len(cases)} {what}, first {cases[0]}" for what, cases in differences.items() if cases]
        if said:
            print(
                f"Notice: {folder / name} is not of the cases as they are now ({'; '.join(said)}); preprocess this "
                "configuration again, or remove the folder."
            )


def _data_identifiers(folder: Path) -> set[str]:
    """Return the names of the data folders of all plans."""
    configurations = [plan for plans in all_plans(folder).values() for plan in plans["configurations"].values()]
    return {plan["data_identifier"] for plan in configurations if "data_identifier" in plan}


def all_plans(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the plans of a data set by their names; a file of another kind, or half a one, is left out."""
    found = {}
    for file in folder.glob("*.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get("configurations"), dict):
            found[file.stem] = content
    return found
