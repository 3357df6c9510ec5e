"""What trainers with agents share: one seed for everything, and checkpoints from which the agents go on, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed, nn
from torch._dynamo import OptimizedModule

from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.repeatable import make_repeatable
from rl_nnunet.errors import InputError
from rl_nnunet.random_state import get_random_state, seed_everything, set_random_state

SEED_VARIABLE = "RL_NNUNET_SEED"
CHECKPOINT_KEY = "rl_nnunet"


class Agents(Protocol):
    """All that a trainer needs of its agents."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that the network's weights do not hold."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class AgentTrainer(nnUNetTrainer):
    """nnU-Net's trainer with agents beside the network; the base of ours, not to be trained with.

    All flags of ``nnUNetv2_train`` work but ``-num_gpus``. With the environment variable ``RL_NNUNET_SEED`` and
    ``nnUNet_n_proc_DA=0`` two runs on a CPU are equal, and a killed and resumed one equals one that was not.

    Attributes
    ----------
    architecture_overrides : dict
        Architecture arguments that ablations set in the plans of the model folder.
    schedule : mapping of str to int
        What differs from nnU-Net's schedule, by the names of nnU-Net's attributes: ``num_epochs``,
        ``num_iterations_per_epoch``, ``num_val_iterations_per_epoch``, ``save_every``.
    """

    architecture_overrides: dict[str, Any] = {}
    schedule: Mapping[str, int] = {}

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        if distributed.is_available() and distributed.is_initialized():
            raise SystemExit(
                f"Error: {type(self).__name__} trains on one GPU, because its agents are not synchronized between "
                "processes yet; leave out -num_gpus."
            )
        if SEED_VARIABLE in os.environ:
            seed_everything(int(os.environ[SEED_VARIABLE]))
        try:
            plans, messages = self.prepare_plans(plans, configuration, dataset_json)
        except InputError as error:
            raise SystemExit(f"Error: {error}") from None
        super().__init__(plans, configuration, fold, dataset_json, device)
        vars(self).update(self.schedule)
        for message in messages:
            self.print_to_log_file(f"NOTE: {message}")
        self.agents: Agents | None = None
        self._random_state: dict[str, Any] | None = None

    def prepare_plans(
        self, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Return plans that build the trainer's network, and what the user should know; `InputError` if impossible."""
        raise NotImplementedError

    def build_agents(self) -> Agents:
        """Return the agents of the network, which is there by now."""
        raise NotImplementedError

    @property
    def channel_groups(self) -> Sequence[Sequence[int]]:
        """Channels of each branch or modality."""
        raise NotImplementedError

    def extra_state(self) -> dict[str, Any]:
        """Return what a restart needs besides network, optimizer, agents and random state."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""

    @property
    def module(self) -> nn.Module:
        """The network, whether it is compiled or not."""
        return self.network._orig_mod if isinstance(self.network, OptimizedModule) else self.network

    def initialize(self) -> None:
        """Initialize as nnU-Net does, then the agents."""
        if self.was_initialized:
            return
        super().initialize()
        self.agents = self.build_agents()

    def get_training_transforms(
        self, *args: Any, channels: Sequence[int] | None = None, **kwargs: Any
    ) -> BasicTransform:
        """Return nnU-Net's augmentation, made to leave absent channels blank; of some channels only, if given.

        With a seed, it is made repeatable, too (see `rl_nnunet.dataloading.repeatable`).
        """
        values, groups = self.configuration_manager.network_arch_init_kwargs["blank_values"], self.channel_groups
        if channels is not None:
            values, groups = [values[channel] for channel in channels], [range(len(channels))]
        transforms = super().get_training_transforms(*args, **kwargs)
        if SEED_VARIABLE in os.environ:
            make_repeatable(transforms)
        return KeepBlank(transforms, values, groups)

    def on_train_start(self) -> None:
        """Start as nnU-Net does, then continue the random state of a resumed training."""
        super().on_train_start()
        if self._random_state is not None:
            set_random_state(self._random_state)

    def add_log_keys(self, keys: Sequence[str]) -> None:
        """Make nnU-Net's log (and W&B, where the user has enabled it) accept further keys."""
        self.logger.local_logger.my_fantastic_logging.update({key: [] for key in keys})

    def save_checkpoint(self, filename: str) -> None:
        """Save nnU-Net's checkpoint with the agents, other state of ours and random state, in one step."""
        if self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        unfinished = f"{filename}.unfinished"
        super().save_checkpoint(unfinished)
        checkpoint = torch.load(unfinished, map_location="cpu", weights_only=False)
        checkpoint[CHECKPOINT_KEY] = {
            "agents": self.agents.state_dict(),
            "random_state": get_random_state(),
            **self.extra_state(),
        }
        torch.save(checkpoint, unfinished)
        os.replace(unfinished, filename)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Load nnU-Net's checkpoint with all that `save_checkpoint` added."""
        super().load_checkpoint(filename_or_checkpoint)
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, str):
            checkpoint = torch.load(checkpoint, map_location=self.device, weights_only=False)
        state = checkpoint[CHECKPOINT_KEY]
        self.agents.load_state_dict(state["agents"])
        self.load_extra_state(state)
        # Starting the data loaders draws random numbers; the state is set after that, in on_train_start.
        self._random_state = state["random_state"]


def mean_without_nan(rows: Any) -> np.ndarray:
    """Return the column means over the rows that are no NaN; NaN where there is none."""
    values = np.array(rows, dtype=float)
    count = (~np.isnan(values)).sum(0)
    return np.divide(np.nansum(values, axis=0), count, out=np.full(values.shape[1], np.nan), where=count > 0)
