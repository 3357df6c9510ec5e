"""Trainers of nnU-Net's own networks refuse plans of ours in a sentence."""

from __future__ import annotations

from rl_nnunet.errors import InputError
from rl_nnunet.training.refusal import refusing


class StockNetwork:
    """Goes before an nnU-Net trainer in the list of bases, and after `AgentTraining` where there is one."""

    def initialize(self) -> None:
        """Initialize as nnU-Net does, unless the plans build a network of ours, whose output its loss does not take."""
        network = self.configuration_manager.network_arch_class_name
        with refusing():
            if network.startswith("rl_nnunet."):
                raise InputError(
                    f"The plans {self.plans_manager.plans_name} build {network.rpartition('.')[2]}, but "
                    f"{type(self).__name__} trains nnU-Net's own network; plan with nnU-Net's planners "
                    "(-pl nnUNetPlannerResEncM), and give -p the plans of that name."
                )
        super().initialize()
