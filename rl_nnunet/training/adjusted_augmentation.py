"""An agent that sets the augmentation of a training, epoch by epoch, around any nnU-Net trainer.

    class AdjustedClassifier(AdjustedAugmentation, ClassificationTrainer):
        settings = ClassifierSettings()  # with an entry ``augmentation``

The augmentation is nnU-Net's own (`rl_nnunet.dataloading.adjustable_augmentation`); where unpaired data have one for
each branch, all of them have the same setting. Neither validation nor prediction knows of it.
"""

from __future__ import annotations

from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from rl_nnunet.agents.agent import Agent
from rl_nnunet.agents.augmentation import AugmentationAgent
from rl_nnunet.dataloading.adjustable_augmentation import AdjustableAugmentation, planned_probabilities
from rl_nnunet.errors import InputError
from rl_nnunet.training.refusal import refusing

NAME = "augmentation"
"""Of the agent among the trainer's agents."""


class AdjustedAugmentation:
    """Goes before a trainer with `AgentTraining` in the list of bases.

    Attributes
    ----------
    settings : TrainerSettings
        With an entry ``augmentation``, a `rl_nnunet.agents.augmentation.AugmentationConfig`.
    """

    def build_agents(self) -> dict[str, Agent]:
        """Add the agent of the augmentation to the trainer's agents."""
        agent = AugmentationAgent(self._planned_probabilities(), self.settings.augmentation)
        return {**super().build_agents(), NAME: agent}

    def _planned_probabilities(self) -> dict[str, float]:
        """Return what the trainer's augmentation has by itself: it is built once more, and thrown away."""
        patch_size = self.configuration_manager.patch_size
        rotation, dummy_2d, _, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        planned = planned_probabilities(
            super().get_training_transforms(patch_size, rotation, None, mirror_axes, dummy_2d)
        )
        if not planned:
            with refusing():
                raise InputError(
                    f"The augmentation of {type(self).__name__} has no transform that an agent could adjust; train "
                    "with a trainer that augments."
                )
        return planned

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return the trainer's augmentation, which follows the agent from then on."""
        agent: AugmentationAgent = self.agents[NAME]
        transform = super().get_training_transforms(*args, **kwargs)
        return AdjustableAugmentation(transform, list(agent.planned), agent.factors)
