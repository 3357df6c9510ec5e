"""Ablations and baselines of ``APGATrainer``: in each, only the masks differ."""

from __future__ import annotations

from dataclasses import replace

from rl_nnunet.agents.masks import MaskConfig
from rl_nnunet.trainers.apga_trainer import APGATrainer

PAPER = {"cells": None, "learning_rate": 1e-4}
"""A mask of voxels, and the learning rate of section 3."""


class APGATrainerPaper(APGATrainer):
    """As the paper prints it (eq. 3-7): every voxel's p is thresholded, nothing is drawn. It is known to collapse."""

    settings = replace(APGATrainer.settings, masks=MaskConfig(source="paper", **PAPER))


class APGATrainerScriptLoss(APGATrainer):
    """With the loss of the authors' published script, which is not that of the paper.

    The formula was read from the script (see `rl_nnunet.agents.mask.ScriptMaskAgent`). The script itself does not run:
    it imports modules that were not published with it. So this is its loss in our training, not a reproduction.
    """

    settings = replace(APGATrainer.settings, masks=MaskConfig(source="script", **PAPER))


class APGATrainerNone(APGATrainer):
    """Without masks: the second step is on the same images again, so that there are as many steps."""

    settings = replace(APGATrainer.settings, masks=MaskConfig(source="none"))


class APGATrainerCutout(APGATrainer):
    """With random rectangles in the place of masks."""

    settings = replace(APGATrainer.settings, masks=MaskConfig(source="cutout"))


class APGATrainerGradCAM(APGATrainer):
    """With Grad-CAM of the task network in the place of masks: that of the training itself, not of one before it."""

    settings = replace(APGATrainer.settings, masks=MaskConfig(source="grad_cam"))
