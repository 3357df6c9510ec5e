"""Settings of the trainers whose augmentation an agent sets."""

from __future__ import annotations

from dataclasses import dataclass

from rl_nnunet.agents.augmentation import AugmentationConfig
from rl_nnunet.trainers.classification_settings import ClassificationSettings
from rl_nnunet.trainers.rl_xalign_settings import RLXAlignSettings
from rl_nnunet.training.settings import TrainerSettings


@dataclass(frozen=True)
class AugmentationPolicySettings(TrainerSettings):
    """What a trainer with an agent of the augmentation trains with.

    Parameters
    ----------
    augmentation : AugmentationConfig
        How the agent acts and learns.
    """

    augmentation: AugmentationConfig = AugmentationConfig()


@dataclass(frozen=True)
class AugmentationPolicyRLXAlignSettings(AugmentationPolicySettings, RLXAlignSettings):
    """Both kinds of settings."""


@dataclass(frozen=True)
class AugmentationPolicyClassificationSettings(ClassificationSettings, AugmentationPolicySettings):
    """Both kinds of settings; the schedule is that of classifiers, which a dataclass takes from its first base."""
