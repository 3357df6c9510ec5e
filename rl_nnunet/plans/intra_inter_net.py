"""The plans of the intra- and inter-modality agents' network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl_nnunet.branches import channel_indices
from rl_nnunet.errors import InputError
from rl_nnunet.plans.adapt import NetworkPlan, PlannedData
from rl_nnunet.plans.checks import PLAN_ANEW
from rl_nnunet.plans.modality_encoder import modality_encoder


def modality_arguments(
    dataset_json: dict[str, Any],
    channel_blank_values: Sequence[float],
    arch_kwargs: Mapping[str, Any],
    patch_size: Sequence[int],
) -> dict[str, Any]:
    """Return the arguments that `IntraInterNet` has beyond those of nnU-Net's networks; JSON-serializable."""
    names = _modalities(dataset_json)
    return {
        "modality_names": names,
        "blank_values": list(channel_blank_values),
        "agents": ["intra", "inter"],
        "iterations": 1,
        "hidden_size": 64,
        "fused_output_weight": 4.0,
        "regions": any(
            isinstance(value, list | tuple) and len(value) > 1 for value in dataset_json.get("labels", {}).values()
        ),
        "exploration_share": 1.0,
        "learning": "reinforcement",
        "trained_iterations": "ends",
        "prediction_iterations": None,
        "modality_encoder": modality_encoder(arch_kwargs, len(names), patch_size),
    }


class IntraInterNetPlan(NetworkPlan):
    """Plans of `rl_nnunet.networks.intra_inter_net.IntraInterNet`."""

    network_class = "rl_nnunet.networks.intra_inter_net.IntraInterNet"
    user = "the agents need"
    planner = "IntraInterPlanner"

    def check_data(self, data: PlannedData) -> None:
        """Refuse unpaired data."""
        if not data.layout.is_paired:
            raise InputError(
                f"The data set is {data.layout.pairing}, but the modalities of a case are fused voxel by voxel; train "
                "RLXAlignTrainer."
            )

    def derive(self, data: PlannedData) -> dict[str, Any]:
        """See `modality_arguments`."""
        arch_kwargs = data.entry["architecture"]["arch_kwargs"]
        return modality_arguments(data.dataset_json, data.blank_values, arch_kwargs, data.entry["patch_size"])

    def describe(self, arguments: Mapping[str, Any], data: PlannedData) -> list[str]:
        """Name the modalities."""
        names = arguments["modality_names"]
        return [
            f"The plans are {data.plans['plans_name']}, which know no modalities. Derived: an encoder for each of "
            f"{', '.join(names)}. Patch and batch size were planned for a single encoder; the network needs about "
            f"{len(names)} times the memory. IntraInterPlanner plans for it."
        ]

    def check_fit(self, arguments: Mapping[str, Any], data: PlannedData) -> None:
        """Check that the modalities of the plans are the channels of the data set, in its order."""
        found, planned = _modalities(data.dataset_json), list(arguments["modality_names"])
        if planned != found:
            raise InputError(
                f"The channels of dataset.json are {', '.join(found)}, but the plans {data.plans['plans_name']} were "
                f"made for {', '.join(map(str, planned))}; restore dataset.json, or {PLAN_ANEW}."
            )


def _modalities(dataset_json: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels, in order."""
    index = channel_indices(dict(dataset_json))
    return sorted(index, key=index.get)
