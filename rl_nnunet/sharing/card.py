"""The card of a model: what it was trained on, how good it was on the cases that were held out, how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.evaluation.exported_model import ModelDescription
from rl_nnunet.evaluation.per_branch import SUMMARY_FILE
from rl_nnunet.evaluation.trained_model import TrainedModel

NOT_STATED = "not stated"


def model_card(model: TrainedModel, description: ModelDescription, name: str) -> str:
    """Return the card in Markdown.

    Parameters
    ----------
    model : TrainedModel
        nnU-Net's model folder, with its validations as far as there are any.
    description : ModelDescription
        Of the exported model.
    name : str
        Of the exported folder.
    """
    dataset_json, plans = model.dataset_json, model.plans
    configuration = plans.get_configuration(description.configuration)
    layout = layout_from_dataset_json(dataset_json)
    names = dict(enumerate(model.modalities))
    branches = "; ".join(
        f"{branch.name} ({', '.join(names[c] for c in branch.channels)})" for branch in layout.branches
    )
    facts = {
        "data set": f"{plans.dataset_name}, {dataset_json.get('numTraining', NOT_STATED)} training cases",
        "licence of the data": dataset_json.get("licence") or dataset_json.get("license") or NOT_STATED,
        "licence of the weights": description.licence or NOT_STATED,
        "branches": f"{branches}; {layout.pairing}",
        "labels": ", ".join(label for label in dataset_json["labels"] if label != "background"),
        "trainer, plans, configuration": f"{description.trainer}, {plans.plans_name}, {description.configuration}",
        "patch": " x ".join(map(str, configuration.patch_size)) + " voxels",
        "spacing": " x ".join(f"{edge:g}" for edge in configuration.spacing) + " mm",
        "folds": ", ".join(description.folds),
        "written by": ", ".join(f"{package} {number}" for package, number in description.versions.items()),
    }
    parts = [
        f"# {name}",
        _table(("", ""), [(key, str(value)) for key, value in facts.items()]),
        "## Dice of the cases that were held out",
        _validation(model),
        "## Use",
        "Install rl_nnunet, whose networks and trainers are imported by name, then:",
        f"    rl_nnunet_predict -m {name} -f {' '.join(description.folds)} -i IMAGES -o SEGMENTATIONS",
        "The weights are safetensors; no file of this folder is a pickle, and none runs code of its own.",
    ]
    return "\n\n".join(parts) + "\n"


def _validation(model: TrainedModel) -> str:
    """Return nnU-Net's mean Dice of each fold, and that of each branch where it is known."""
    rows = []
    for checkpoint in model.checkpoints:
        folder = checkpoint.parent / "validation"
        whole = _read(folder / "summary.json").get("foreground_mean", {}).get("Dice")
        if whole is None:
            rows.append((checkpoint.parent.name, "all", "not validated"))
            continue
        rows.append((checkpoint.parent.name, "all", f"{whole:.4f}"))
        for branch, values in _read(folder / SUMMARY_FILE).items():
            rows.append((checkpoint.parent.name, f"{branch}, {values['cases']:.0f} cases", f"{values['mean']:.4f}"))
    return _table(("fold", "cases", "mean Dice"), rows)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
