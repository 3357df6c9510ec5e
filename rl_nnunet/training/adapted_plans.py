"""A network of ours in an nnU-Net trainer, from stock plans or ours, once plans and data fit each other."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.distributed import leave_to_agents
from rl_nnunet.errors import InputError
from rl_nnunet.plans.adapt import NetworkPlan, adapt
from rl_nnunet.plans.arguments import check_arguments
from rl_nnunet.plans.checks import PLAN_ANEW
from rl_nnunet.presence.cases import branches_of_case
from rl_nnunet.training.data_checks import check_labels, check_pairing, check_spacing
from rl_nnunet.training.expected_classes import check_classes_are_expected
from rl_nnunet.training.refusal import refusing
from rl_nnunet.training.settings import TrainerSettings

NNUNET_PREPROCESSOR = "DefaultPreprocessor"
BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a network from a plan that somebody has edited can come to."""


def _refuse_missing_channels(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """End a prediction of cases that lack a channel's file in a sentence; nnU-Net goes on with the files there are."""
    given, expected = inputs[0].shape[1], len(network.blank_values)
    if given != expected:
        raise SystemExit(
            f"Error: The case has {given} channel{'s' * (given != 1)}, but the network {expected}: each case needs a "
            "file for every channel; for an absent one, an image of zeros with the geometry of the others."
        )


class AdaptedPlans:
    """Goes before an nnU-Net trainer, and after `AgentTraining` where there is one, in the list of bases.

    Attributes
    ----------
    network_plan : NetworkPlan
        The network.
    settings : TrainerSettings
        Its ``architecture`` is set in the plans.
    """

    network_plan: NetworkPlan
    settings = TrainerSettings()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        with refusing():
            plans, messages = adapt(plans, configuration, dataset_json, self.network_plan, self.settings.architecture)
            self.layout = layout_from_dataset_json(dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        for message in messages:
            self.print_to_log_file(f"NOTE: {message}")

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network of the plans, for training and prediction; a plan that builds none ends in a sentence.

        So does nnU-Net's prediction by a classifier.
        """
        name, network = plans_manager.plans.get("plans_name"), configuration_manager.network_arch_class_name
        with refusing():
            if "class_names" in configuration_manager.network_arch_init_kwargs:
                check_classes_are_expected()
            check_arguments(name, network, configuration_manager.network_arch_init_kwargs, num_input_channels)
            try:
                built = nnUNetTrainer.build_network_architecture(
                    plans_manager,
                    configuration_manager,
                    num_input_channels,
                    num_output_channels,
                    enable_deep_supervision,
                )
                built.register_forward_pre_hook(_refuse_missing_channels)
                leave_to_agents(built, built.agents_parameters() if hasattr(built, "agents_parameters") else ())
                return built
            except BUILD_ERRORS as error:
                reason = (str(error).splitlines() or ["?"])[0]
                raise InputError(
                    f"The arch_kwargs of the plans {name} do not build {network.rpartition('.')[2]} "
                    f"({type(error).__name__}: {reason}); {PLAN_ANEW}."
                ) from None

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets, once it is clear that ``dataset.json`` says of them what they are."""
        training, validation = super().get_tr_and_val_datasets()
        labels = self.label_manager
        with refusing():
            for case in training.identifiers[:1]:
                foreground = labels.foreground_regions if labels.has_regions else labels.foreground_labels
                data, _, _, properties = training.load_case(case)
                check_labels(properties, foreground)
                configuration, transpose = self.configuration_manager, self.plans_manager.transpose_forward
                if configuration.preprocessor_name == NNUNET_PREPROCESSOR:
                    check_spacing(data.shape[1:], properties, transpose, configuration.spacing)
            cases = (branches_of_case(training.load_case(case)[0], self.layout) for case in training.identifiers)
            check_pairing(cases, self.layout)
        return training, validation
