"""Writes a whole data set of phantom heads with tumors."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError
from rl_nnunet.parallel import work_on_all
from rl_nnunet.phantoms.brats_layout import (
    PHANTOM_NOTE,
    SEQUENCES,
    TABLE_FILES,
    TOP_FOLDERS,
    YEARS,
    SequenceName,
    plan_brats_jobs,
)
from rl_nnunet.phantoms.config import HeadPhantomConfig
from rl_nnunet.phantoms.output_folder import PROGRESS_LABEL, new_phantom_folder

if TYPE_CHECKING:
    from rl_nnunet.phantoms.brats_write import WrittenBratsCase

# Where NIfTI's header has its free text.
_NOTE_START, _NOTE_END = 148, 228


def write_brats_dataset(
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
) -> list[WrittenBratsCase]:
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
        Replace a phantom data set that is there. A folder that holds anything else is never replaced.

    Returns
    -------
    list of WrittenBratsCase
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
    with new_phantom_folder(output, overwrite, _find_foreign) as folder:
        # Imported late, so that a folder that cannot be written is reported at once.
        from rl_nnunet.phantoms.brats_tables import write_tables
        from rl_nnunet.phantoms.brats_write import write_brats_case

        config = config or HeadPhantomConfig()
        jobs = plan_brats_jobs(year, cases, test_cases, seed, config, test_labels, noise_sequence)
        written = work_on_all(partial(write_brats_case, folder), jobs, processes, PROGRESS_LABEL)
        write_tables(folder, written)
    return written


def _find_foreign(folder: Path) -> str | None:
    """Return something below a folder that is not of a phantom, if there is any.

    Real data have the same names as phantoms: images tell by their header, and tables belong to the images beside them.
    """
    tables: dict[str, str] = {}
    tops_with_images = set()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        top = relative.parts[0]
        if top not in TOP_FOLDERS or path.is_symlink():
            return str(relative)
        if not path.is_file():
            continue
        if path.name in TABLE_FILES:
            tables.setdefault(top, str(relative))
        elif _is_phantom(path):
            tops_with_images.add(top)
        else:
            return str(relative)
    return next((table for top, table in tables.items() if top not in tops_with_images), None)


def _is_phantom(path: Path) -> bool:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(_NOTE_END)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False
    return header[_NOTE_START:_NOTE_END].rstrip(b"\0").decode("latin1") == PHANTOM_NOTE
