"""``nnUNetTrainerModalityDropout``: stock nnU-Net for cases that lack modalities, the baseline of every table."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.errors import InputError
from rl_nnunet.training.absent_channels import AbsentChannels
from rl_nnunet.training.refusal import refusing
from rl_nnunet.training.settings import Scheduled


class nnUNetTrainerModalityDropout(Scheduled, AbsentChannels, nnUNetTrainer):  # noqa: N801 - nnU-Net's way to name its variants
    """nnU-Net's own network, loss and schedule on samples from which modalities are withheld at random, nothing else.

    It trains on the plans of any planner of nnU-Net. In prediction, a missing modality is an image of zeros.
    """

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
