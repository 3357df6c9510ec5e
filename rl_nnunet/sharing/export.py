"""Write a trained model as a folder without pickles (`rl_nnunet.evaluation.exported_model`), with a card."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from rl_nnunet import __version__
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.exported_model import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    ModelDescription,
    check_classes,
    is_exported,
)
from rl_nnunet.evaluation.trained_model import LOAD_ERRORS, TrainedModel
from rl_nnunet.files import new_folder
from rl_nnunet.sharing.card import model_card
from rl_nnunet.training.checkpoints import load_without_code

KIND = "an exported model"
PACKAGES = ("nnunetv2", "torch", "dynamic-network-architectures")


def export_model(model: TrainedModel, target: Path, licence: str = "", *, overwrite: bool = False) -> None:
    """Write a model folder that holds what prediction needs, and no pickle.

    Parameters
    ----------
    model : TrainedModel
        What to export.
    target : Path
        The folder to be.
    licence : str
        Of the weights.
    overwrite : bool
        Replace an exported model that is there.

    Raises
    ------
    InputError
        If the model cannot be read, its plans name classes of other packages, or the folder cannot be written.
    """
    if is_exported(model.folder):
        raise InputError(f"{model.folder} is an exported model already; copy it.")
    with new_folder(target, KIND, overwrite=overwrite) as folder:
        checkpoints = []
        for file in model.checkpoints:
            checkpoint = _read(file)
            weights = {name: value.detach().contiguous().clone() for name, value in checkpoint["weights"].items()}
            (folder / file.parent.name).mkdir()
            save_file(weights, folder / file.parent.name / WEIGHTS_FILE)
            checkpoints.append({**checkpoint, "weights": None})  # of one fold at a time
        first = checkpoints[0]
        configuration = model.plans.get_configuration(first["configuration"])
        check_classes(model.folder / "plans.json", configuration.configuration["architecture"])
        axes = first["mirroring_axes"]
        description = ModelDescription(
            first["trainer"],
            first["configuration"],
            None if axes is None else tuple(int(axis) for axis in axes),
            tuple(map(str, model.folds)),
            {"rl_nnunet": __version__, **{name: version(name) for name in PACKAGES}},
            licence,
        )
        description.write(folder / DESCRIPTION_FILE)
        for name in ("dataset.json", "plans.json"):
            shutil.copyfile(model.folder / name, folder / name)
        (folder / "README.md").write_text(model_card(model, description, target.name), encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    """Return what prediction needs of one of nnU-Net's checkpoints, without running any code that it brings along."""
    try:
        checkpoint = load_without_code(file, "cpu")
        return {
            "weights": checkpoint["network_weights"],
            "trainer": checkpoint["trainer_name"],
            "configuration": checkpoint["init_args"]["configuration"],
            "mirroring_axes": checkpoint.get("inference_allowed_mirroring_axes"),
        }
    except LOAD_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f'{file} cannot be read ("{reason}"); copy or train it anew.') from None
