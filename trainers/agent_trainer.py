"""What trainers with agents share: one seed for everything, and checkpoints from which the agents go on, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch._dynamo import OptimizedModule

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.consistency import (
    PLAN_ANEW,
    check_checkpoint,
    check_labels,
    check_pairing,
    check_spacing,
    read_checkpoint,
)
from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.repeatable import make_repeatable
from rl_nnunet.dataloading.unpaired_loader import branches_of_case
from rl_nnunet.errors import InputError
from rl_nnunet.files import new_file
from rl_nnunet.networks.arguments import check_arguments
from rl_nnunet.random_state import get_random_state, seed_everything, seed_from_environment, set_random_state

CHECKPOINT_KEY = "rl_nnunet"
NNUNET_PREPROCESSOR = "DefaultPreprocessor"
BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a network from a plan that somebody has edited can come to."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """End an `InputError` in its sentence, with which nnU-Net's commands exit."""
    try:
        yield
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None


def _refuse_missing_channels(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """End a prediction of cases that lack a channel's file in a sentence; nnU-Net goes on with the files there are."""
    given, expected = inputs[0].shape[1], len(network.blank_values)
    if given != expected:
        raise SystemExit(
            f"Error: The case has {given} channel{'s' * (given != 1)}, but the network {expected}: each case needs a "
            "file for every channel; for an absent one, an image of zeros with the geometry of the others."
        )


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
        with refusing():
            self.seed = seed_from_environment()
            if self.seed is not None:
                seed_everything(self.seed)
            plans, messages = self.prepare_plans(plans, configuration, dataset_json)
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

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network of the plans, for training and prediction; a plan that builds none ends in a sentence."""
        name, network = plans_manager.plans.get("plans_name"), configuration_manager.network_arch_class_name
        with refusing():
            check_arguments(name, network, configuration_manager.network_arch_init_kwargs, num_input_channels)
            try:
                built = nnUNetTrainer.build_network_architecture(
                    plans_manager,
                    configuration_manager,
                    num_input_channels,
                    num_output_channels,
                    enable_deep_supervision,
                )
                built.register_forward_pre_hook(_refuse_missing_channels)
                return built
            except BUILD_ERRORS as error:
                reason = (str(error).splitlines() or ["?"])[0]
                raise InputError(
                    f"The arch_kwargs of the plans {name} do not build {network.rpartition('.')[2]} "
                    f"({type(error).__name__}: {reason}); {PLAN_ANEW}."
                ) from None

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets, once it is clear that ``dataset.json`` says of them what they are."""
        training, validation = super().get_tr_and_val_datasets()
        layout, labels = layout_from_dataset_json(self.dataset_json), self.label_manager
        with refusing():
            for case in training.identifiers[:1]:
                foreground = labels.foreground_regions if labels.has_regions else labels.foreground_labels
                data, _, _, properties = training.load_case(case)
                check_labels(properties, foreground)
                configuration, transpose = self.configuration_manager, self.plans_manager.transpose_forward
                if configuration.preprocessor_name == NNUNET_PREPROCESSOR:
                    check_spacing(data.shape[1:], properties, transpose, configuration.spacing)
            cases = (branches_of_case(training.load_case(case)[0], layout) for case in training.identifiers)
            check_pairing(cases, layout)
        return training, validation

    def get_training_transforms(
        self, *args: Any, channels: Sequence[int] | None = None, **kwargs: Any
    ) -> BasicTransform:
        """Return nnU-Net's augmentation, made to leave absent channels blank; of some channels only, if given.

        With a seed, it is made repeatable, too (see `rl_nnunet.dataloading.repeatable`).
        """
        values = self.configuration_manager.network_arch_init_kwargs["blank_values"]
        if channels is not None:
            values = [values[channel] for channel in channels]
        transforms = super().get_training_transforms(*args, **kwargs)
        if self.seed is not None:
            make_repeatable(transforms)
        return KeepBlank(transforms, values)

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
        with new_file(filename) as unfinished:
            super().save_checkpoint(str(unfinished))
            checkpoint = torch.load(unfinished, map_location="cpu", weights_only=False)
            checkpoint[CHECKPOINT_KEY] = {
                "agents": self.agents.state_dict(),
                "random_state": get_random_state(),
                **self.extra_state(),
            }
            torch.save(checkpoint, unfinished)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load nnU-Net's checkpoint with all that `save_checkpoint` added."""
        self.initialize()
        with refusing():
            checkpoint = read_checkpoint(filename_or_checkpoint, self.device)
            check_checkpoint(
                filename_or_checkpoint,
                checkpoint,
                type(self).__name__,
                CHECKPOINT_KEY,
                self.dataset_json,
                self.module.state_dict(),
            )
        state = checkpoint[CHECKPOINT_KEY]
        del checkpoint  # nnU-Net's trainer reads the weights anew, and two of them would be in memory
        super().load_checkpoint(filename_or_checkpoint)
        self.agents.load_state_dict(state["agents"])
        self.load_extra_state(state)
        # Starting the data loaders draws random numbers; the state is set after that, in on_train_start.
        self._random_state = state["random_state"]


def mean_without_nan(rows: Any) -> np.ndarray:
    """Return the column means over the rows that are no NaN; NaN where there is none."""
    values = np.array(rows, dtype=float)
    count = (~np.isnan(values)).sum(0)
    return np.divide(np.nansum(values, axis=0), count, out=np.full(values.shape[1], np.nan), where=count > 0)
