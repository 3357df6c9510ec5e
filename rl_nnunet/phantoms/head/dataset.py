"""Writes a whole data set of phantom heads with tumors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError
from rl_nnunet.files import new_folder
from rl_nnunet.parallel import work_on_all
from rl_nnunet.phantoms.head.config import SEQUENCES, HeadPhantomConfig, SequenceName
from rl_nnunet.phantoms.head.layout import YEARS, plan_head_jobs

if TYPE_CHECKING:
    from rl_nnunet.phantoms.head.write import WrittenHeadCase


def write_head_dataset(
    output: Path | str,
    year: int = 2021,
    cases: int = 20,
    test_cases: int = 0,
    seed: int = 0,
    config: HeadPhantomConfig | None = None,
    *,
    test_labels: bool = False,
    noise_sequence: SequenceName | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> list[WrittenHeadCase]:
    """Write a data set of phantom heads with tumors in the layout of a year of BraTS.

    Parameters
    ----------
    output : Path or str
        Folder to write; must not exist, or be empty, unless `overwrite`.
    year : int
        2018, 2019, 2020, 2021, 2023 or 2024; they differ in folders, names, labels and tables.
    cases, test_cases : int
        Labeled training cases and unlabeled validation cases.
    seed : int
        Same seed, same images, whatever `processes`.
    config : HeadPhantomConfig, optional
        Sizes, variation, noise.
    test_labels : bool
        Write the segmentations of the validation cases beside their images, too; BraTS keeps them to itself.
    noise_sequence : {"T1", "T1ce", "T2", "FLAIR"}, optional
        This sequence is nothing but noise inside the brain; the others stay as they are without it.
    processes : int
        Worker processes; 1 does the work in this one.
    overwrite : bool
        Replace phantom heads that are there. A folder that holds anything else, at any depth, is never replaced.

    Returns
    -------
    list of WrittenHeadCase
        What was written, training cases first.

    Raises
    ------
    InputError
        If the folder exists or cannot be written, or there is no such year or sequence.
    """
    if year not in YEARS:
        raise InputError(f"There is no phantom of BraTS {year}; choose one of {', '.join(map(str, YEARS))}.")
    if noise_sequence not in (None, *SEQUENCES):
        raise InputError(f"There is no sequence {noise_sequence}; choose one of {', '.join(SEQUENCES)}.")
    with new_folder(Path(output).expanduser().absolute(), "a phantom of heads", overwrite=overwrite) as folder:
        # Imported late, so that a folder that cannot be written is reported at once.
        from rl_nnunet.phantoms.head.tables import write_tables
        from rl_nnunet.phantoms.head.write import write_head_case

        config = config or HeadPhantomConfig()
        jobs = plan_head_jobs(year, cases, test_cases, seed, config, test_labels, noise_sequence)
        written = work_on_all(partial(write_head_case, folder), jobs, processes, "Making phantoms")
        write_tables(folder, written)
    return written
