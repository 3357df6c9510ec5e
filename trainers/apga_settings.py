"""Settings of the trainers with adversarial policy-gradient augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from rl_nnunet.agents.masks import MaskConfig
from rl_nnunet.trainers.classification_settings import ClassificationSettings
from rl_nnunet.trainers.rl_xalign_settings import RLXAlignSettings
from rl_nnunet.training.settings import TrainerSettings


@dataclass(frozen=True)
class APGASettings(TrainerSettings):
    """What a trainer with masks trains with.

    Parameters
    ----------
    masks : MaskConfig
        Where the masks come from, and from which epoch on there are any.
    """

    masks: MaskConfig = MaskConfig()


@dataclass(frozen=True)
class APGARLXAlignSettings(APGASettings, RLXAlignSettings):
    """Both kinds of settings."""


@dataclass(frozen=True)
class APGAClassificationSettings(ClassificationSettings, APGASettings):
    """Both kinds of settings; the schedule is that of classifiers, which a dataclass takes from its first base."""
