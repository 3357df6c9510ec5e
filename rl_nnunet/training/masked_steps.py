"""A second step per batch, on masked images: adversarial policy-gradient augmentation around any nnU-Net trainer.

Cheng et al. (APGA, see `rl_nnunet.agents.mask`), algorithm 1: a step of the task network on the original images, a step
of the policy, and a step of the task network on the aided images, which the policy as it is by then has masked. The
policy is no part of the network: prediction knows nothing of it.

    class MaskedClassifier(MaskedSteps, AgentTraining, nnUNetTrainer):
        settings = ClassifierSettings()  # with an entry ``masks``

        def sample_losses(self, batch):
            return cross_entropy(self.local_network(batch["data"]), self.classes_of(batch), reduction="none")[:, None]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_nnunet.agents.agent import Agent
from rl_nnunet.agents.mask import MaskAgent, PaperMaskAgent, ScriptMaskAgent
from rl_nnunet.agents.masks import IS_AIDED, MaskSource
from rl_nnunet.branches import blank_values
from rl_nnunet.distributed import all_agree
from rl_nnunet.policies.mask import MaskPolicy, cell_edges
from rl_nnunet.presence.erasing import erase
from rl_nnunet.progress_plot import Panel
from rl_nnunet.training.mask_baselines import Cutout, GradCAM, KeepAll

NAME = "mask"
"""Of the mask source among the trainer's agents."""
MASK_AGENTS = {"sampled": MaskAgent, "paper": PaperMaskAgent, "script": ScriptMaskAgent}


class MaskedSteps:
    """Goes before a trainer with `AgentTraining` in the list of bases.

    The trainer says what a sample's loss is (`sample_losses`); nothing here is about segmentation.

    Attributes
    ----------
    settings : TrainerSettings
        With an entry ``masks``, a `rl_nnunet.agents.masks.MaskConfig`.
    """

    # ---- what a trainer says ---------------------------------------------------------------------------------------

    def sample_losses(self, batch: dict[str, Any]) -> Tensor:
        """Return the task's loss of each sample and group of channels, (B, groups), by ``self.local_network``.

        It is asked in evaluation mode, and must leave no trace: no moving average, no report.

        Parameters
        ----------
        batch : dict
            Of the trainer's loader, on the device of the network; of its ``data``, parts may be erased.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say what the loss of a sample is (sample_losses)")

    def mask_groups(self) -> Sequence[Sequence[int]]:
        """Return the channels that share a mask: all of the image's, which show one place."""
        return [list(range(len(self.configuration_manager.normalization_schemes)))]

    def attended_module(self) -> nn.Module:
        """Return the module whose feature map Grad-CAM weighs, (B, features, *spatial): the deepest encoder stage."""
        return self.module.encoder.stages[-1]

    # ---- the mask source -------------------------------------------------------------------------------------------

    def build_agents(self) -> dict[str, Agent]:
        """Add the mask source to the trainer's agents."""
        return {**super().build_agents(), NAME: self._build_mask_source()}

    def _build_mask_source(self) -> MaskSource:
        config, groups = self.settings.masks, self.mask_groups()
        if config.source == "none":
            return KeepAll(len(groups))
        if config.source == "cutout":
            return Cutout(len(groups))
        if config.source == "grad_cam":
            return GradCAM(self.task_losses, self.attended_module())
        patch_size, spacing = self.configuration_manager.patch_size, self.configuration_manager.spacing
        # The spacing of a 2D configuration is that of the plane.
        edges = cell_edges(patch_size, spacing[-len(patch_size) :], config.cells)
        policy = MaskPolicy(self.num_input_channels, patch_size, edges).to(self.device)
        return MASK_AGENTS[config.source](policy, self.task_losses, groups, self._erased_values, config)

    @cached_property
    def _erased_values(self) -> Tensor:
        """Return the blank value of each input channel; 0 of the previous stage's labels in a cascade."""
        values = blank_values(
            self.configuration_manager.normalization_schemes,
            self.plans_manager.foreground_intensity_properties_per_channel,
        )
        beyond = self.num_input_channels - len(values)
        return torch.tensor([*values, *[0.0] * beyond], device=self.device)

    def task_losses(self, batch: dict[str, Any]) -> Tensor:
        """Return `sample_losses` in evaluation mode and as floats."""
        was_training = self.network.training
        self.network.eval()
        self.loss.eval()
        try:
            with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
                return self.sample_losses(batch).float()
        finally:
            self.network.train(was_training)
            self.loss.train(was_training)

    def _do_i_compile(self) -> bool:
        """Compile as nnU-Net does, but not for Grad-CAM, which looks into the network."""
        return self.settings.masks.source != "grad_cam" and super()._do_i_compile()

    # ---- steps -----------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Start as `AgentTraining` does; masks are used once the planned share of the epochs is over."""
        super().on_train_epoch_start()
        pretrained = int(self.settings.masks.pretrained_share * self.num_epochs)
        self.agents[NAME].is_on = self.current_epoch >= pretrained

    def train_step(self, batch: dict) -> dict:
        """Train on the batch, in which the mask agent learns, then on its aided images; the loss is the first one's."""
        batch = to_device(batch, self.device)  # once, and not for every loss
        result = super().train_step(batch)
        if self.agents[NAME].is_on:
            self._train_on_aided(batch)
        return result

    def _train_on_aided(self, batch: dict) -> None:
        """Train on the aided images that keep enough, and log what all of them keep."""
        kept = self.agents[NAME].keep(batch)
        shares = kept.flatten(2).float().mean(-1)
        is_used = (shares >= self.settings.masks.smallest_kept).all(1)
        values = {"mask_kept": shares.mean(), "mask_skipped": 1 - is_used.float().mean(), "mask_aided_loss": np.nan}
        rows = is_used.nonzero().flatten().tolist()
        if all_agree(bool(rows)):  # else the other ranks would wait for this one's gradient
            data = erase(batch["data"], ~kept, self.mask_groups(), self._erased_values)
            aided = take_rows({**batch, "data": data, IS_AIDED: True}, rows)
            values["mask_aided_loss"] = float(super().train_step(aided)["loss"])
        self.log_step(values)

    def own_panels(self) -> Sequence[Panel]:
        """Return the trainer's own panels, and what the aided images keep."""
        return [
            *super().own_panels(),
            Panel("aided images: kept and skipped", "share", ("mask_kept", "mask_skipped")),
            Panel("training loss of the aided images", "loss", ("mask_aided_loss",)),
        ]


def to_device(value: Any, device: torch.device) -> Any:
    """Return a batch with all of its tensors on a device, also those in lists (deep supervision)."""
    if isinstance(value, dict):
        return {key: to_device(each, device) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_device(each, device) for each in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def take_rows(value: Any, rows: Sequence[int]) -> Any:
    """Return some samples of a batch, or of an entry of one.

    Tensors and arrays have the samples along their first axis; a list of them (deep supervision) is taken apart, and
    any other list has an item per sample. What is none of these belongs to all samples.
    """
    if isinstance(value, dict):
        return {key: take_rows(each, rows) for key, each in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        return value[list(rows)]
    if isinstance(value, list | tuple):
        is_per_scale = len(value) > 0 and isinstance(value[0], Tensor | np.ndarray)
        return [take_rows(each, rows) for each in value] if is_per_scale else [value[row] for row in rows]
    return value
