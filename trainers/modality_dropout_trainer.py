"""Stock nnU-Net for cases that lack modalities, and for those with a degraded one: the baselines of every table."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.training.absent_channels import AbsentChannels
from rl_nnunet.training.degraded_modalities import DegradedModalities
from rl_nnunet.training.settings import Scheduled
from rl_nnunet.training.stock_network import StockNetwork


class nnUNetTrainerModalityDropout(Scheduled, StockNetwork, AbsentChannels, nnUNetTrainer):  # noqa: N801 - nnU-Net's way to name its variants
    """nnU-Net's own network, loss and schedule on samples from which modalities are withheld at random, nothing else.

    It trains on the plans of any planner of nnU-Net. In prediction, a missing modality is an image of zeros.
    """


class nnUNetTrainerModalityDegradation(DegradedModalities, nnUNetTrainerModalityDropout):  # noqa: N801 - likewise
    """The same, and one modality of half of the samples is degraded (`rl_nnunet.dataloading.degradation`)."""

    def usual_degradation(self) -> float:
        """Return a half: damages are what it is for."""
        return 0.5
