"""The plans of the classifier with agents: those of the classification planner, with the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_nnunet.branches import channel_indices
from rl_nnunet.errors import InputError
from rl_nnunet.plans.adapt import PlannedData
from rl_nnunet.plans.checks import PLAN_ANEW
from rl_nnunet.plans.classification import ClassificationNetPlan


class IntraInterClassifierPlan(ClassificationNetPlan):
    """Plans of `rl_nnunet.networks.intra_inter_classifier.IntraInterClassifier`, from those of early fusion."""

    network_class = "rl_nnunet.networks.intra_inter_classifier.IntraInterClassifier"
    user = "the agents need"
    adapted_classes = (ClassificationNetPlan.network_class,)

    def derive(self, data: PlannedData) -> dict[str, Any]:
        """Return the modalities and the agents; T = 3 is the paper's."""
        names = _modalities(data.dataset_json)
        return {
            "modality_names": names,
            "agents": ["intra", "inter"] if len(names) > 1 else ["intra"],
            "iterations": 3,
            "hidden_size": 64,
            "fused_output_weight": 4.0,
            "exploration_share": 0.5,
            "learning": "reinforcement",
            "trained_iterations": "all",
            "prediction_iterations": None,
        }

    def describe(self, arguments: Mapping[str, Any], data: PlannedData) -> list[str]:
        """Name the modalities."""
        return [f"The encoder of the plans is built once for each of {', '.join(arguments['modality_names'])}."]

    def check_fit(self, arguments: Mapping[str, Any], data: PlannedData) -> None:
        """Check that the modalities of the plans are the channels of the data set, in its order."""
        super().check_fit(arguments, data)
        found, planned = _modalities(data.dataset_json), list(arguments["modality_names"])
        if planned != found:
            raise InputError(
                f"The channels of dataset.json are {', '.join(found)}, but the plans {data.plans['plans_name']} were "
                f"made for {', '.join(map(str, planned))}; restore dataset.json, or {PLAN_ANEW}."
            )


def _modalities(dataset_json: Mapping[str, Any]) -> list[str]:
    index = channel_indices(dict(dataset_json))
    return sorted(index, key=index.get)
