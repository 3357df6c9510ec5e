"""The interface of an agent: all that a trainer knows of what learns beside its network.

An agent plugs into any trainer with `rl_nnunet.training.agent_training.AgentTraining`::

    class LossWatcher(Agent):
        panels = (Panel("loss, as the agent sees it", "loss", ("watched_loss",)),)

        def learn(self, report):
            return {"watched_loss": report.loss}

It learns from training steps, from the validations at the ends of epochs, or from both.

With several GPUs, each rank (`rl_nnunet.distributed`) has an agent and steps of its own, and all have to learn the
same. The validation is the same on all of them, and so is what torch draws on the CPU while they learn from it.

A *policy* decides and belongs to the network where the network asks it (`rl_nnunet.policies`); its agent trains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rl_nnunet.progress_plot import Panel


@dataclass(frozen=True)
class StepReport:
    """What one training step was; trainers whose agents need more of it hand them a subclass.

    Parameters
    ----------
    batch : dict
        What the step was trained on: ``data``, ``target``, ``keys``.
    loss : float
        The step's loss, before the update of the network.
    progress : float
        Fraction of the epochs that are over, in [0, 1).
    """

    batch: dict[str, Any]
    loss: float
    progress: float


@dataclass(frozen=True)
class ValidationReport:
    """What the validation at the end of an epoch found.

    Parameters
    ----------
    score : float
        By whose average over epochs nnU-Net chooses its best checkpoint: the pseudo Dice, or the balanced accuracy of a
        classifier; in [0, 1], NaN where nothing could be judged.
    progress : float
        Fraction of the epochs that are over, this one not included, in [0, 1).
    branch_scores : mapping of str to float
        The pseudo Dice of every branch alone, by name, likewise; empty where the network has no branches.
    """

    score: float
    progress: float
    branch_scores: Mapping[str, float] = field(default_factory=dict)


class Agent:
    """One learner beside the network. Everything has a default that does nothing.

    Attributes
    ----------
    panels : sequence of Panel
        What to draw of the agent, and with it the keys that it logs.
    """

    panels: Sequence[Panel] = ()

    def before_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch that the network is to be trained on, by default the given one."""
        return batch

    def learn(self, report: StepReport) -> dict[str, float | Tensor]:
        """Learn from a step; return its values of the log keys, as far as there are any, numbers or 0-d tensors."""
        return {}

    def learn_from_validation(self, report: ValidationReport) -> dict[str, float]:
        """Learn from an epoch's validation; return the epoch's values of the log keys whose panel has no reduction."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restart needs and the network's weights do not hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
