"""Dice per branch from nnU-Net's ``summary.json``."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from rl_nnunet.branches import BranchLayout
from rl_nnunet.files import new_file
from rl_nnunet.presence.cases import branches_of_case

SUMMARY_FILE = "summary_per_branch.json"


def summarize_per_branch(folder: str, dataset: nnUNetBaseDataset, layout: BranchLayout) -> str:
    """Group the cases of ``summary.json`` by the branches that they have.

    Parameters
    ----------
    folder : str
        nnU-Net's validation folder; ``summary_per_branch.json`` is written into it.
    dataset : nnUNetBaseDataset
        The preprocessed cases.
    layout : BranchLayout
        The branches.

    Returns
    -------
    str
        A table: one row per group of cases (``CT``, ``MRI``, ``CT+MRI``), one column per label, mean Dice.
    """
    summary = json.loads(Path(folder, "summary.json").read_text())
    rows = []
    for case in summary["metric_per_case"]:
        file = Path(case["reference_file"]).name  # an identifier may hold dots, a file ending may hold several
        identifier = max((i for i in dataset.identifiers if file.startswith(f"{i}.")), key=len)
        names = "+".join(branches_of_case(dataset.load_case(identifier)[0], layout))
        rows.append({"branches": names, **{label: m["Dice"] for label, m in case["metrics"].items()}})
    table = pd.DataFrame(rows).groupby("branches").mean()
    table["mean"] = table.mean(axis=1)
    table.insert(0, "cases", pd.DataFrame(rows).groupby("branches").size())
    with new_file(Path(folder, SUMMARY_FILE)) as file:
        file.write_text(json.dumps(table.to_dict(orient="index"), indent=2))
    return table.to_string(float_format=lambda x: f"{x:.4f}")
