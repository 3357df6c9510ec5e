"""The report on subsets of modalities: tables for people, and tables for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rl_nnunet.evaluation.subsets import (
    CONVENTIONS,
    TOLERANCE,
    dice_per_case,
    harm_of_adding,
    harm_table,
    mean_per_subset,
    subset_table,
)
from rl_nnunet.files import new_file

PER_CASE, PER_SUBSET, PER_MODALITY = "dice_per_case.csv", "dice_per_subset.csv", "adding_a_modality.csv"
SUMMARY = "summary.md"
REPORT_FILES = (PER_CASE, PER_SUBSET, PER_MODALITY, SUMMARY)


def write_report(
    folder: Path,
    counts: pd.DataFrame,
    modalities: Sequence[str],
    erase: Mapping[str, int] | None = None,
    tolerance: float = TOLERANCE,
) -> str:
    """Write `REPORT_FILES`, each with both conventions, and return the tables of ``summary.md``.

    Parameters
    ----------
    folder : Path
        The folder to write to.
    counts : DataFrame
        See `rl_nnunet.evaluation.subsets`.
    modalities : sequence of str
        All modalities.
    erase : mapping of str to int, optional
        See `dice_per_case`.
    tolerance : float
        See `harm_of_adding`.
    """
    tables: dict[str, list[pd.DataFrame]] = {PER_CASE: [], PER_SUBSET: [], PER_MODALITY: []}
    text = []
    for convention, title in CONVENTIONS.items():
        dice = dice_per_case(counts, convention, erase)
        means, harm = mean_per_subset(dice), harm_of_adding(dice, modalities, tolerance)
        rule = "".join(f"; {name} of fewer than {n} voxels erased" for name, n in (erase or {}).items())
        text += [
            f"## {title}{rule if convention == 'field' else ''}",
            subset_table(means, modalities),
            f"How often adding a modality makes a case worse (mean Dice lower by more than {tolerance:g}):",
            harm_table(harm),
        ]
        tables[PER_CASE].append(dice.assign(mean=dice.mean(axis=1)).assign(convention=convention))
        tables[PER_SUBSET].append(means.assign(convention=convention))
        tables[PER_MODALITY].append(harm.rename_axis("added").assign(convention=convention))
    for name, parts in tables.items():
        with new_file(folder / name) as file:
            pd.concat(part.set_index("convention", append=True) for part in parts).to_csv(file)
    summary = "\n\n".join(text)
    with new_file(folder / SUMMARY) as file:
        file.write_text(f"# Dice of every subset of modalities\n\n{summary}\n", encoding="utf-8")
    return summary
