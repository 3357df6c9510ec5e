"""Training on cases that lack channels, with any nnU-Net trainer: what is blank stays blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.branches import blank_values
from rl_nnunet.dataloading.keep_blank import KeepBlank


class AbsentChannels:
    """Goes before an nnU-Net trainer in the list of bases, and needs nothing else of ours."""

    def get_training_transforms(
        self, *args: Any, channels: Sequence[int] | None = None, **kwargs: Any
    ) -> BasicTransform:
        """Return nnU-Net's augmentation, made to leave absent channels blank; of some channels only, if given."""
        values = blank_values(
            self.configuration_manager.normalization_schemes,
            self.plans_manager.foreground_intensity_properties_per_channel,
        )
        if channels is not None:
            values = [values[channel] for channel in channels]
        return KeepBlank(super().get_training_transforms(*args, **kwargs), values)
