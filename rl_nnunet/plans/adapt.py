"""From nnU-Net's plans to plans that build a network of ours: one function for all of them.

Our planners write plans that state everything. Stock plans (nnU-Net's default planner, ResEnc M and L) know nothing of
branches; `adapt` rewrites the trained configuration of such plans, so that the model folder's plans are again all that
prediction needs. What is particular to a network stands in its own module of this package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from rl_nnunet.branches import BranchLayout, blank_values
from rl_nnunet.errors import InputError
from rl_nnunet.plans.arguments import check_arguments
from rl_nnunet.plans.checks import check_blank_values, check_data_set, configuration_entry

STOCK_CLASSES = (
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
)


class PlannedData(NamedTuple):
    """What a configuration was planned for.

    Attributes
    ----------
    plans, entry : dict
        nnU-Net's plans and their configuration, with all that it inherits.
    dataset_json : dict
        The data set's description.
    layout : BranchLayout
        Its branches.
    """

    plans: dict[str, Any]
    entry: dict[str, Any]
    dataset_json: dict[str, Any]
    layout: BranchLayout

    @property
    def blank_values(self) -> tuple[float, ...]:
        """Value of each channel where it is absent."""
        properties = self.plans["foreground_intensity_properties_per_channel"]
        return blank_values(self.entry["normalization_schemes"], properties)


class NetworkPlan(ABC):
    """What the plans of one network of ours are.

    Attributes
    ----------
    network_class : str
        Dotted name of the network.
    user : str
        Who needs these plans, as the subject of a sentence with its verb, such as "RL-XAlign needs".
    planner : str
        Name of the planner that writes them.
    adapted_classes : tuple of str
        Dotted names of the networks whose plans are rewritten.
    """

    network_class: str
    user: str
    planner: str
    adapted_classes: tuple[str, ...] = STOCK_CLASSES

    def check_data(self, data: PlannedData) -> None:  # noqa: B027 - most networks take all data
        """Raise `InputError` if the network is not for such data; by default it is for all."""

    @abstractmethod
    def derive(self, data: PlannedData) -> dict[str, Any]:
        """Return the arguments that the network has beyond those of nnU-Net's networks; JSON-serializable."""

    @abstractmethod
    def describe(self, arguments: Mapping[str, Any], data: PlannedData) -> list[str]:
        """Return sentences that say what was derived, before it is in the plans."""

    @abstractmethod
    def check_fit(self, arguments: Mapping[str, Any], data: PlannedData) -> None:
        """Raise `InputError` if the arguments of the plans are not of this data set."""


def adapt(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    network: NetworkPlan,
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """Return plans whose `configuration` builds a network of ours, and sentences that say what was derived.

    Parameters
    ----------
    plans : dict
        nnU-Net's plans; not changed.
    configuration : str
        The configuration to train.
    dataset_json : dict
        The data set's description, where stock plans have to take the branches from.
    network : NetworkPlan
        The network.
    overrides : mapping
        Architecture arguments that a trainer (an ablation) sets. A mapping is merged field by field, everything else
        replaced.

    Raises
    ------
    InputError
        If the configuration is a cascade, its network is none that we can adapt, or plans and data set do not fit each
        other or the network.
    """
    plans = deepcopy(plans)
    entry = configuration_entry(plans, configuration)
    data = PlannedData(plans, entry, dataset_json, check_data_set(plans, entry, dataset_json))
    network.check_data(data)
    architecture, messages = entry["architecture"], []
    arguments = architecture["arch_kwargs"]
    if architecture["network_class_name"] in network.adapted_classes:
        derived = network.derive(data)
        messages = network.describe(derived, data)
        architecture["network_class_name"] = network.network_class
        arguments.update(derived)
    elif architecture["network_class_name"] != network.network_class:
        others = ", of nnU-Net's default planner, or of its ResEnc planners"
        raise InputError(
            f"The plans build {architecture['network_class_name']}; {network.user} plans of {network.planner}"
            f"{others if network.adapted_classes == STOCK_CLASSES else ''}."
        )
    check_arguments(plans["plans_name"], network.network_class, arguments, len(entry["normalization_schemes"]))
    network.check_fit(arguments, data)
    check_blank_values(plans, entry)
    for name, value in overrides.items():
        arguments[name] = {**arguments.get(name, {}), **value} if isinstance(value, Mapping) else value
    return plans, messages
