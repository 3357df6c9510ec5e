"""``AugmentationPolicyTrainer``: an agent sets the augmentation of stock segmentation, RL-XAlign, and a classifier."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.trainers.augmentation_policy_settings import (
    AugmentationPolicyClassificationSettings,
    AugmentationPolicyRLXAlignSettings,
    AugmentationPolicySettings,
)
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.adjusted_augmentation import AdjustedAugmentation
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.stock_network import StockNetwork


class AugmentationPolicyTrainer(AdjustedAugmentation, AgentTraining, StockNetwork, nnUNetTrainer):
    """nnU-Net's own network, loss and augmentation, of which an agent sets probabilities and strengths."""

    settings = AugmentationPolicySettings()


class AugmentationPolicyRLXAlignTrainer(AdjustedAugmentation, RLXAlignTrainer):
    """RL-XAlign with the agent; all branches have the same setting."""

    settings = AugmentationPolicyRLXAlignSettings()


class AugmentationPolicyClassificationTrainer(AdjustedAugmentation, ClassificationTrainer):
    """Early fusion with the agent, rewarded by the change of the balanced accuracy."""

    settings = AugmentationPolicyClassificationSettings()
