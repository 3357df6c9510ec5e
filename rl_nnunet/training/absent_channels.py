"""Training on cases that lack channels, with any nnU-Net trainer, and for cases that will lack some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.branches import blank_values
from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.modality_dropout import ModalityDropout
from rl_nnunet.plans.modality_shares import planned_modality_dropout
from rl_nnunet.training.refusal import refusing


class AbsentChannels:
    """What is blank stays blank, and training withholds channels at random, by the ``modality_dropout`` of the plans.

    Goes before an nnU-Net trainer in the list of bases, and needs nothing else of ours.
    """

    def get_training_transforms(
        self, *args: Any, channels: Sequence[int] | None = None, **kwargs: Any
    ) -> BasicTransform:
        """Return nnU-Net's augmentation with what is blank afterwards; of some channels only, if given."""
        values = blank_values(
            self.configuration_manager.normalization_schemes,
            self.plans_manager.foreground_intensity_properties_per_channel,
        )
        if channels is not None:
            values = [values[channel] for channel in channels]
        with refusing():
            share = planned_modality_dropout(self.configuration_manager.configuration)
        transform = KeepBlank(super().get_training_transforms(*args, **kwargs), values)
        return ModalityDropout(transform, share)
