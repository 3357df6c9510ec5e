"""``APGAClassificationTrainer``: adversarial augmentation of a classifier, its ablations and baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from rl_nnunet.agents.masks import MaskConfig
from rl_nnunet.trainers.apga_ablations import PAPER
from rl_nnunet.trainers.apga_settings import APGAClassificationSettings
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.training.masked_steps import MaskedSteps


class APGAClassificationTrainer(MaskedSteps, ClassificationTrainer):
    """Early fusion, trained a second time per batch on what the mask agent holds important: the paper's task."""

    settings = APGAClassificationSettings()

    def sample_losses(self, batch: dict[str, Any]) -> Tensor:
        """Return the cross entropy of every sample, (B, 1)."""
        return self.losses_of(self.local_network(batch["data"]), self.labels_of(batch["keys"]))[:, None]


class APGAClassificationTrainerPaper(APGAClassificationTrainer):
    """As the paper prints it; see `rl_nnunet.trainers.apga_ablations`."""

    settings = replace(APGAClassificationTrainer.settings, masks=MaskConfig(source="paper", **PAPER))


class APGAClassificationTrainerScriptLoss(APGAClassificationTrainer):
    """With the loss of the authors' script; see `rl_nnunet.trainers.apga_ablations`."""

    settings = replace(APGAClassificationTrainer.settings, masks=MaskConfig(source="script", **PAPER))


class APGAClassificationTrainerNone(APGAClassificationTrainer):
    """Without masks, in as many steps."""

    settings = replace(APGAClassificationTrainer.settings, masks=MaskConfig(source="none"))


class APGAClassificationTrainerCutout(APGAClassificationTrainer):
    """With random rectangles in the place of masks."""

    settings = replace(APGAClassificationTrainer.settings, masks=MaskConfig(source="cutout"))


class APGAClassificationTrainerGradCAM(APGAClassificationTrainer):
    """With Grad-CAM of the task network in the place of masks."""

    settings = replace(APGAClassificationTrainer.settings, masks=MaskConfig(source="grad_cam"))
