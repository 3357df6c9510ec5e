"""A model folder without pickles: weights as safetensors, so that a stranger's model can be used without running it.

    MODEL/
      README.md                     the model card
      model.json                    what nnU-Net keeps in its checkpoints besides weights: trainer, configuration, ...
      dataset.json  plans.json      as in nnU-Net's model folder
      fold_0/weights.safetensors    the network's weights, per fold

Plans name the network's class and others that nnU-Net imports and calls; here, they must be of nnU-Net's libraries or
of ours.
"""

from __future__ import annotations

import json
import pydoc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import load_file
from torch import nn

from rl_nnunet.branches import read_dataset_json
from rl_nnunet.errors import InputError

DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
FORMAT = 1
NETWORKS = ("dynamic_network_architectures.", "rl_nnunet.networks.")
IMPORTED_ARGUMENTS = "torch.nn."
"""Where classes come from that plans name."""


@dataclass(frozen=True)
class ModelDescription:
    """The content of ``model.json``.

    Parameters
    ----------
    trainer : str
        Name of the trainer's class, which builds the network.
    configuration : str
        Of the plans.
    mirroring_axes : tuple of int or None
        Along which predictions may be averaged over mirrored images.
    folds : tuple of str
        Those that have weights.
    versions : dict of str to str
        Of the packages that wrote it.
    licence : str
        Of the weights; "" where it was not stated.
    format : int
        Of the folder.
    """

    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None
    folds: tuple[str, ...]
    versions: Mapping[str, str]
    licence: str = ""
    format: int = FORMAT

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")


def is_exported(folder: Path) -> bool:
    """Tell whether a model folder is one without pickles."""
    return (folder / DESCRIPTION_FILE).is_file()


def read_description(folder: Path) -> ModelDescription:
    """Return the content of ``model.json``.

    Raises
    ------
    InputError
        If it cannot be read, or was written by a newer version.
    """
    file = folder / DESCRIPTION_FILE
    content = read_dataset_json(file)
    try:
        description = ModelDescription(**content)
    except TypeError:
        description = None
    if description is None or description.format != FORMAT or not _is_well_formed(description):
        raise InputError(
            f"{file} is not what this version of rl_nnunet writes; export the model anew, or install the version that "
            "wrote it."
        )
    axes = description.mirroring_axes
    return ModelDescription(**{**content, "mirroring_axes": None if axes is None else tuple(axes)})


def _is_well_formed(description: ModelDescription) -> bool:
    axes = description.mirroring_axes
    are_axes = axes is None or (isinstance(axes, list) and all(axis in (0, 1, 2) for axis in axes))
    return are_axes and isinstance(description.trainer, str) and isinstance(description.configuration, str)


def load_exported(folder: Path, folds: Sequence[int | str], predictor: nnUNetPredictor) -> None:
    """Build the network of a predictor and load the weights of some folds.

    Raises
    ------
    InputError
        If the plans name a class of another package.
    """
    description = read_description(folder)
    dataset_json, plans = (read_dataset_json(folder / name) for name in ("dataset.json", "plans.json"))
    manager = PlansManager(plans)
    configuration = manager.get_configuration(description.configuration)
    check_classes(folder / "plans.json", configuration.configuration["architecture"])
    trainer = recursive_find_trainer_class_by_name(description.trainer)
    network = trainer.build_network_architecture(
        manager,
        configuration,
        determine_num_input_channels(manager, configuration, dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    weights = [load_file(folder / f"fold_{fold}" / WEIGHTS_FILE) for fold in folds]
    network.load_state_dict(weights[0])
    predictor.manual_initialization(
        network, manager, configuration, weights, dataset_json, description.trainer, description.mirroring_axes
    )


def check_classes(file: Path, architecture: Mapping[str, Any]) -> None:
    """Check that the classes that plans name are of nnU-Net's libraries, or of ours: nnU-Net calls whatever it is.

    Raises
    ------
    InputError
        If one is not.
    """
    arguments = architecture["arch_kwargs"]
    imported = [arguments.get(name) for name in architecture["_kw_requires_import"]]
    network = architecture["network_class_name"]
    foreign = [name for name in imported if name is not None and not _is_of(name, (IMPORTED_ARGUMENTS,))]
    if not _is_of(network, NETWORKS):
        foreign.append(network)
    if foreign:
        raise InputError(
            f"{file} names {foreign[0]!r}, which is neither of nnU-Net's libraries nor of ours; an exported model that "
            "does so is not loaded. If you trust it, use nnU-Net's checkpoint of the model."
        )


def _is_of(name: Any, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is that of a module for networks which some packages define.

    The name alone does not tell: ``torch.nn.functional.torch.os.system`` begins like one of torch's, too.
    """
    if not isinstance(name, str) or not name.startswith(packages):
        return False
    found = pydoc.locate(name)
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(packages)
