"""The output folder of ``rl_nnunet_evaluate_subsets``: a run that was killed goes on where it stopped.

``settings.json``
    What the results depend on: hashes of the model's files, how it predicts, and the cases with their files. Another
    run with other settings is refused.
``counts/CASE.json``
    Voxel counts of the case, written anew after each prediction; see `CaseCounts`.
``predictions/SUBSET/``
    With ``--save_predictions``: nnU-Net's segmentations.
``dice_per_case.csv``, ``dice_per_subset.csv``, ``adding_a_modality.csv``, ``summary.md``
    The report, from the counts alone; see `write_report`.

All files are written as a whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.subset_report import REPORT_FILES
from rl_nnunet.evaluation.subsets import COUNT_COLUMNS, all_subsets, subset_name
from rl_nnunet.files import new_file

SETTINGS, COUNTS, PREDICTIONS = "settings.json", "counts", "predictions"
WHAT_DIFFERS = {"model": "another model", "prediction": "other settings of prediction", "cases": "other cases"}
"""Per entry of the settings, what the folder holds results of where it differs."""


@dataclass
class CaseCounts:
    """What is known of one case.

    Parameters
    ----------
    present : tuple of str
        The modalities that it has.
    counts : dict
        Per subset of these and label, true positive, false positive and false negative voxels.
    """

    present: tuple[str, ...]
    counts: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def of_subset(self, subset: Sequence[str]) -> tuple[str, ...]:
        """Return those modalities of a subset that the case has."""
        return tuple(name for name in subset if name in self.present)


class ResultsFolder:
    """See the module.

    Parameters
    ----------
    folder : Path
        The folder; it exists.
    settings : dict
        What the results depend on, with the keys of `WHAT_DIFFERS`; ``cases`` is a dict with an entry per case.
    ending : str
        The ending of segmentations.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], ending: str) -> None:
        self.folder = folder
        self.settings = settings
        self.ending = ending

    def prepare(self, *, overwrite: bool) -> None:
        """Begin, or go on with what is there.

        Raises
        ------
        InputError
            If there is something else, or results that may not be mixed with those to come.
        """
        there = self._read_settings()
        if there is not None and overwrite:
            self._remove(there)
        elif there is not None and any(self._counts_file(case).exists() for case in there["cases"]):
            differing = next((text for key, text in WHAT_DIFFERS.items() if there[key] != self.settings[key]), None)
            if differing is not None:
                raise InputError(
                    f"{self.folder} holds results of {differing}, which are not mixed with those of this run; choose "
                    "another folder, or add --overwrite to replace them."
                )
        _write_json(self.folder / SETTINGS, self.settings)
        (self.folder / COUNTS).mkdir(exist_ok=True)

    def _read_settings(self) -> dict[str, Any] | None:
        """Return the settings of an earlier run, None in a new folder."""
        path = self.folder / SETTINGS
        if not path.exists():
            if any(not found.name.startswith(".") for found in self.folder.iterdir()):
                raise InputError(f"{self.folder} holds something else; choose a new or an empty folder.")
            return None
        settings = _read_json(path)
        if not isinstance(settings, dict) or not all(isinstance(settings.get(key), dict) for key in WHAT_DIFFERS):
            raise InputError(f"{path} is not from this command; choose a new or an empty folder.")
        return settings

    def _remove(self, settings: dict[str, Any]) -> None:
        """Remove what an earlier run has written, and nothing else."""
        for name in REPORT_FILES:
            (self.folder / name).unlink(missing_ok=True)
        subsets = [path for path in (self.folder / PREDICTIONS).glob("*") if path.is_dir()]
        for case in settings["cases"]:
            self._counts_file(case).unlink(missing_ok=True)
            for subset in subsets:
                (subset / f"{case}{self.ending}").unlink(missing_ok=True)

    def _counts_file(self, case: str) -> Path:
        return self.folder / COUNTS / f"{case}.json"

    def prediction_file(self, subset: Sequence[str], case: str) -> Path:
        """Return the file of a segmentation."""
        return self.folder / PREDICTIONS / subset_name(subset).replace("/", "_") / f"{case}{self.ending}"

    def read(self, case: str) -> CaseCounts | None:
        """Return what is known of a case, if it has been begun."""
        path = self._counts_file(case)
        if not path.exists():
            return None
        content = _read_json(path)
        try:
            return CaseCounts(tuple(content["present"]), dict(content["counts"]))
        except (TypeError, KeyError, ValueError):
            raise InputError(f"{path} is damaged; remove it, and it is made anew.") from None

    def write(self, case: str, known: CaseCounts) -> None:
        """Write what is known of a case."""
        _write_json(self._counts_file(case), {"present": known.present, "counts": known.counts})


def count_table(known: Mapping[str, CaseCounts], modalities: Sequence[str]) -> pd.DataFrame:
    """Return the counts of `rl_nnunet.evaluation.subsets`, of cases that are complete.

    A case that has none of a subset's modalities has no row for this subset.
    """
    rows = [
        (subset_name(subset), present, case, label, *numbers)
        for subset in all_subsets(modalities)
        for case, of_case in known.items()
        if (present := subset_name(of_case.of_subset(subset)))
        for label, numbers in of_case.counts[present].items()
    ]
    return pd.DataFrame(rows, columns=list(COUNT_COLUMNS))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        with new_file(path) as file:
            file.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); make room or mend permissions, and start again."
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged; remove it, or choose another folder.") from None
