"""From nnU-Net's plans to the architecture of the intra- and inter-modality agents' network."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from rl_nnunet.branches import blank_values, channel_indices
from rl_nnunet.consistency import check_blank_values, check_data_set, check_modalities, configuration_entry
from rl_nnunet.errors import InputError
from rl_nnunet.networks.architecture import STOCK_CLASSES
from rl_nnunet.networks.arguments import check_arguments

NETWORK_CLASS = "rl_nnunet.networks.intra_inter_net.IntraInterNet"


def modality_arguments(dataset_json: dict[str, Any], channel_blank_values: Sequence[float]) -> dict[str, Any]:
    """Return the arguments that `IntraInterNet` has beyond those of nnU-Net's networks; JSON-serializable."""
    index = channel_indices(dataset_json)
    return {
        "modality_names": sorted(index, key=index.get),
        "blank_values": list(channel_blank_values),
        "agents": ["intra", "inter"],
        "iterations": 3,
        "modality_dropout": 0.25,
        "hidden_size": 64,
    }


def with_modalities(
    plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any], overrides: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return plans whose `configuration` builds `IntraInterNet`, and sentences that say what was derived.

    Parameters
    ----------
    plans : dict
        nnU-Net's plans; not changed.
    configuration : str
        The configuration to train.
    dataset_json : dict
        The data set's description.
    overrides : dict
        Architecture arguments that a trainer (an ablation) sets.

    Raises
    ------
    InputError
        If the data set is unpaired, the configuration is a cascade, its network is none that we can give modalities,
        or plans and data set do not fit each other.
    """
    plans = deepcopy(plans)
    entry = configuration_entry(plans, configuration)
    if check_data_set(plans, entry, dataset_json).pairing == "unpaired":
        raise InputError(
            "The data set is unpaired, but the modalities of a case are fused voxel by voxel; train RLXAlignTrainer."
        )
    architecture, messages = entry["architecture"], []
    if architecture["network_class_name"] in STOCK_CLASSES:
        values = blank_values(entry["normalization_schemes"], plans["foreground_intensity_properties_per_channel"])
        arguments = modality_arguments(dataset_json, values)
        architecture["network_class_name"] = NETWORK_CLASS
        architecture["arch_kwargs"].update(arguments)
        messages = [
            f"The plans are {plans['plans_name']}, which know no modalities. Derived: an encoder for each of "
            f"{', '.join(arguments['modality_names'])}. Patch and batch size were planned for a single encoder; the "
            f"network needs about {len(values)} times the memory. IntraInterPlanner plans for it."
        ]
    elif architecture["network_class_name"] != NETWORK_CLASS:
        raise InputError(
            f"The plans build {architecture['network_class_name']}; the agents need plans of IntraInterPlanner, of "
            "nnU-Net's default planner, or of its ResEnc planners."
        )
    arguments = architecture["arch_kwargs"]
    check_arguments(plans["plans_name"], NETWORK_CLASS, arguments, len(entry["normalization_schemes"]))
    check_modalities(plans["plans_name"], arguments, dataset_json)
    check_blank_values(plans, entry)
    arguments.update(overrides)
    return plans, messages
