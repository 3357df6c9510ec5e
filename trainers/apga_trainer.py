"""``APGATrainer``: adversarial policy-gradient augmentation of stock segmentation, and of RL-XAlign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from rl_nnunet.trainers.apga_settings import APGARLXAlignSettings, APGASettings
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.loss_terms import joint_loss
from rl_nnunet.training.masked_steps import MaskedSteps, take_rows
from rl_nnunet.training.stock_network import StockNetwork


class SegmentationMasks(MaskedSteps):
    """Masks for a trainer whose network, in evaluation mode, returns what nnU-Net's networks return."""

    def sample_losses(self, batch: dict[str, Any]) -> Tensor:
        """Return the trainer's loss of every sample by itself, (B, 1)."""
        output, target = self.local_network(batch["data"]), batch["target"]
        rows = ([row] for row in range(len(batch["data"])))
        return torch.stack([self.loss(take_rows(output, row), take_rows(target, row)) for row in rows])[:, None]


class APGATrainer(SegmentationMasks, AgentTraining, StockNetwork, nnUNetTrainer):
    """nnU-Net's own network and loss, trained a second time per batch on what the mask agent holds important."""

    settings = APGASettings()

    def _build_loss(self) -> Any:
        """Build nnU-Net's loss; ranks may have unequal numbers of aided images."""
        if not self.is_ddp:
            return super()._build_loss()
        return joint_loss(super()._build_loss, self.configuration_manager.batch_dice)


class APGARLXAlignTrainer(SegmentationMasks, RLXAlignTrainer):
    """RL-XAlign with a mask agent; of unpaired data, each branch has a mask of its own."""

    settings = APGARLXAlignSettings()

    def mask_groups(self) -> Sequence[Sequence[int]]:
        """Return the channels of every branch of unpaired data, which show different patients; else all channels."""
        return super().mask_groups() if self.layout.is_paired else self.layout.channels

    def sample_losses(self, batch: dict[str, Any]) -> Tensor:
        """Return the losses (B, 1); of unpaired data (B, branches), each branch alone and with its own label map."""
        if self.layout.is_paired:
            return super().sample_losses(batch)
        data, losses = batch["data"], []
        for branch, channels in enumerate(self.layout.channels):
            alone = torch.zeros_like(data)
            alone[:, list(channels)] = data[:, list(channels)]
            target = self._targets.take(batch["target"], branch)
            losses.append(super().sample_losses({"data": alone, "target": target}))
        return torch.cat(losses, dim=1)
