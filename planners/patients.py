"""Which scans are of one patient: from the raw data to where training looks for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from rl_nnunet.case_table import CASE_TABLE, read_patients
from rl_nnunet.files import new_file


def copy_patients(raw: Path, preprocessed: Path, cases: Iterable[str]) -> None:
    """Copy the table of cases beside the preprocessed data, whatever the planner.

    Parameters
    ----------
    raw, preprocessed : Path
        The data set in ``nnUNet_raw`` and in ``nnUNet_preprocessed``.
    cases : iterable of str
        The training cases.

    Raises
    ------
    InputError
        If there is no table, it cannot be read, or lacks a case.
    """
    remedy = 'convert the data set anew with --same_patient, or write "unpaired" as its "pairing" in dataset.json'
    read_patients(raw, cases, remedy)
    with new_file(preprocessed / CASE_TABLE) as unfinished:
        shutil.copyfile(raw / CASE_TABLE, unfinished)
