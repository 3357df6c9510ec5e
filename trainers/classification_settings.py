"""Settings of the trainers of classifiers that are not part of the plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rl_nnunet.trainers.intra_inter_settings import AdamConfig, IntraInterSettings
from rl_nnunet.training.settings import TrainerSettings

SCHEDULE = {"num_epochs": 100}
"""Of nnU-Net's 250 iterations. Its 1000 epochs are for patches; a data set for classification has a crop a case."""


@dataclass(frozen=True)
class ClassificationSettings(TrainerSettings):
    """What `ClassificationTrainer` trains with.

    Parameters
    ----------
    adam : AdamConfig
        The paper's optimizer, for the baseline, too.
    """

    schedule: Mapping[str, int] = field(default_factory=SCHEDULE.copy)
    adam: AdamConfig = AdamConfig()


@dataclass(frozen=True)
class IntraInterClassificationSettings(IntraInterSettings):
    """What `IntraInterClassificationTrainer` trains with: that of the segmentation, on the schedule of classifiers."""

    schedule: Mapping[str, int] = field(default_factory=SCHEDULE.copy)
