"""Agents beside the network of any nnU-Net trainer, one seed for everything, and checkpoints that hold all of it.

    class StockWithWatcher(AgentTraining, nnUNetTrainer):
        def build_agents(self):
            return {"watcher": LossWatcher()}

The trainer knows its agents by their interface alone (`rl_nnunet.agents.agent.Agent`): it lets them change the batch
before a step and learn after it, logs and draws what they say, and saves what they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from rl_nnunet.agents.agent import Agent, StepReport, ValidationReport
from rl_nnunet.dataloading.repeatable import make_repeatable
from rl_nnunet.distributed import barrier, drawn_alike, gather, rank, use_every_parameter, world_size
from rl_nnunet.errors import InputError
from rl_nnunet.files import new_file
from rl_nnunet.progress_plot import Panel, merge_panels, plot_progress, reduce_steps
from rl_nnunet.training.checkpoints import (
    CHECKPOINT_KEY,
    OTHER_RANKS,
    check_checkpoint,
    load_without_code,
    read_checkpoint,
    state_of_rank,
)
from rl_nnunet.training.random_state import (
    LARGEST_SEED,
    get_random_state,
    seed_everything,
    seed_from_environment,
    set_random_state,
)
from rl_nnunet.training.refusal import refusing
from rl_nnunet.training.settings import Scheduled

PICTURE = "progress_rl.png"


class AgentTraining(Scheduled):
    """Goes before an nnU-Net trainer in the list of bases.

    All flags of ``nnUNetv2_train`` work. With the environment variable ``RL_NNUNET_SEED`` and ``nnUNet_n_proc_DA=0``
    two runs on a CPU are equal, and a killed and resumed one equals one that was not.

    With several GPUs, each rank (`rl_nnunet.distributed`) has data and random numbers of its own, and all of them have
    equal agents. Whatever is written, rank 0 writes.

    Attributes
    ----------
    agents : dict of str to Agent
        By name, in the order in which they learn; there once the trainer is initialized.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        with refusing():
            self.seed = seed_from_environment()
        if self.seed is not None:
            seed_everything((self.seed + rank()) % (LARGEST_SEED + 1))
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.agents: dict[str, Agent] = {}
        self._steps: list[dict[str, float | Tensor]] = []
        self._random_state: dict[str, Any] | None = None

    # ---- what a trainer adds ---------------------------------------------------------------------------------------

    def build_agents(self) -> dict[str, Agent]:
        """Return the agents of the network, which is there by now."""
        return {}

    def own_panels(self) -> Sequence[Panel]:
        """Return what the trainer itself logs and draws."""
        return ()

    def describe_step(self, batch: dict[str, Any], loss: float) -> tuple[StepReport, dict[str, float | Tensor]]:
        """Return what the agents learn from, and the step's values of the trainer's own log keys."""
        return StepReport(batch, loss, self.progress), {}

    def describe_validation(self) -> ValidationReport:
        """Return what the agents learn from at the end of an epoch."""
        return ValidationReport(self.logger.get_value("mean_fg_dice", step=-1), self.progress)

    def extra_state(self) -> dict[str, Any]:
        """Return what a restart needs besides network, optimizer, agents and random state."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""

    # ---- training --------------------------------------------------------------------------------------------------

    @property
    def local_network(self) -> nn.Module:
        """The network of this rank, compiled or not: for passes in which the other ranks have no part."""
        return self.network.module if isinstance(self.network, DistributedDataParallel) else self.network

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        network = self.local_network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    @property
    def progress(self) -> float:
        """Fraction of the epochs that are over, in [0, 1)."""
        return self.current_epoch / self.num_epochs

    @property
    def panels(self) -> list[Panel]:
        """Everything that is drawn: the trainer's own panels, then those of the agents."""
        return [*self.own_panels(), *(panel for agent in self.agents.values() for panel in agent.panels)]

    def initialize(self) -> None:
        """Initialize as nnU-Net does, then the agents; nnU-Net's log (and W&B) accepts their keys from then on."""
        if self.was_initialized:
            return
        self._check_batch_size()
        with drawn_alike():  # the same network and agents on all ranks
            super().initialize()
            self.agents = self.build_agents()
        if self.is_ddp:
            use_every_parameter(self.loss, self.module)
        keys = [key for panel in self.panels for key in panel.keys]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise ValueError(f"{type(self).__name__}: two panels have the log key {repeated[0]}; rename one of them")
        self._add_log_keys()

    def _check_batch_size(self) -> None:
        """Refuse more GPUs than samples, where nnU-Net ends in a traceback."""
        size, ranks = self.configuration_manager.batch_size, world_size()
        with refusing():
            if ranks > size:
                raise InputError(
                    f"{self.plans_manager.plans_name} have a batch size of {size}, and each of {ranks} GPUs needs a "
                    f"sample; train with a -num_gpus of at most {size}, or raise batch_size in the plans."
                )

    def _add_log_keys(self) -> None:
        """Add the keys that nnU-Net's log lacks: all at the start, those of newer versions in an older checkpoint."""
        log = self.logger.local_logger.my_fantastic_logging
        for key in (key for panel in self.panels for key in panel.keys):
            log.setdefault(key, [float("nan")] * self.current_epoch)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return nnU-Net's augmentation; with a seed, made repeatable (see `rl_nnunet.dataloading.repeatable`)."""
        transforms = super().get_training_transforms(*args, **kwargs)
        if self.seed is not None:
            make_repeatable(transforms)
        return transforms

    def on_train_start(self) -> None:
        """Start as nnU-Net does, then continue the random state of a resumed training."""
        super().on_train_start()
        if self._random_state is not None:
            set_random_state(self._random_state)

    def on_train_epoch_start(self) -> None:
        """Start as nnU-Net does, with none of the steps of an epoch that was interrupted."""
        super().on_train_epoch_start()
        self.loss.train()  # of which some judge the samples of all ranks in training
        self._steps.clear()

    def on_validation_epoch_start(self) -> None:
        """Start as nnU-Net does; the loss of a rank is that of its own samples from now on."""
        super().on_validation_epoch_start()
        self.loss.eval()

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does, on the batch that the agents leave, then let the agents learn from the step."""
        for agent in self.agents.values():
            batch = agent.before_step(batch)
        result = super().train_step(batch)
        report, values = self.describe_step(batch, float(result["loss"]))
        for agent in self.agents.values():
            values |= agent.learn(report)
        self.log_step(values)
        return result

    def log_step(self, values: dict[str, float | Tensor]) -> None:
        """Keep a step's values of log keys until the end of the epoch, whose value is made of them."""
        # Detached copies, lest a logged tensor keeps the maps of its step until the end of the epoch.
        self._steps.append({k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in values.items()})

    # ---- logging ---------------------------------------------------------------------------------------------------

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log as nnU-Net does, and what trainer and agents did."""
        super().on_train_epoch_end(train_outputs)
        steps = [step for of_ranks in zip(*gather(fetch(self._steps)), strict=True) for step in of_ranks]
        for key, value in reduce_steps(self.panels, steps).items():
            self.logger.log(key, value, self.current_epoch)

    def on_epoch_end(self) -> None:
        """Let the agents learn from the validation, then finish the epoch as nnU-Net does; print and draw all of it."""
        report = self.describe_validation()
        with drawn_alike():  # the report is the same on all ranks, so that all of them learn the same
            for agent in self.agents.values():
                for key, value in agent.learn_from_validation(report).items():
                    self.logger.log(key, value, self.current_epoch)
        panels = self.panels
        for panel in merge_panels(panels):
            values = (f"{key} {np.round(self.logger.get_value(key, step=-1), decimals=4)}" for key in panel.keys)
            self.print_to_log_file(f"{panel.title}:", ", ".join(values))
        super().on_epoch_end()
        if panels and self.local_rank == 0:
            log = self.logger.local_logger.my_fantastic_logging
            plot_progress(log, panels, join(self.output_folder, PICTURE))

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def save_checkpoint(self, filename: str) -> None:
        """Save nnU-Net's checkpoint with the agents, other state of ours and random state, in one step."""
        if self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        agents = {name: agent.state_dict() for name, agent in self.agents.items()}
        own, *others = gather({"agents": agents, "random_state": get_random_state()})
        if self.local_rank == 0:
            with new_file(filename) as unfinished:
                super().save_checkpoint(str(unfinished))
                checkpoint = load_without_code(unfinished, "cpu")
                checkpoint[CHECKPOINT_KEY] = {**own, "extra": self.extra_state()}
                if others:
                    checkpoint[CHECKPOINT_KEY][OTHER_RANKS] = others
                torch.save(checkpoint, unfinished)
        barrier()  # nobody reads what is not written yet

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load nnU-Net's checkpoint with all that `save_checkpoint` added."""
        self.initialize()
        with refusing():
            checkpoint = read_checkpoint(filename_or_checkpoint, self.device)
            check_checkpoint(
                filename_or_checkpoint,
                checkpoint,
                type(self).__name__,
                list(self.agents),
                self.dataset_json,
                self.module.state_dict(),
            )
        state = checkpoint[CHECKPOINT_KEY]
        del checkpoint  # nnU-Net's trainer reads the weights anew, and two of them would be in memory
        super().load_checkpoint(filename_or_checkpoint)
        # nnU-Net saves before it has compared the epoch with the best one, and would take a worse one for it later.
        self._best_ema = None
        for ema in self.logger.local_logger.my_fantastic_logging["ema_fg_dice"]:
            if self._best_ema is None or ema > self._best_ema:
                self._best_ema = ema
        agents, self._random_state = state_of_rank(state, rank(), world_size())
        # Starting the data loaders draws random numbers; the state is set after that, in on_train_start.
        if len(state.get(OTHER_RANKS, ())) + 1 != world_size():
            self.print_to_log_file("NOTE: The checkpoint is of another number of GPUs: samples are drawn anew.")
        for name, agent in self.agents.items():
            agent.load_state_dict(agents[name])
        self.load_extra_state(state["extra"])
        self._add_log_keys()


def fetch(steps: Sequence[dict[str, float | Tensor]]) -> list[dict[str, float]]:
    """Return the values of all steps as numbers; those on a device come in one transfer."""
    tensors = [value for step in steps for value in step.values() if isinstance(value, Tensor)]
    fetched: dict[torch.device, Iterator[float]] = {
        device: iter(torch.stack([t.float() for t in tensors if t.device == device]).tolist())
        for device in {t.device for t in tensors}
    }
    return [
        {key: next(fetched[value.device]) if isinstance(value, Tensor) else value for key, value in step.items()}
        for step in steps
    ]
