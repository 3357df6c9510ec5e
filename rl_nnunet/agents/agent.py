"""The interface of an agent: all that a trainer knows of what learns beside its network.

An agent plugs into any trainer with `rl_nnunet.training.agent_training.AgentTraining`::

    class LossWatcher(Agent):
        panels = (Panel("loss, as the agent sees it", "loss", ("watched_loss",)),)

        def learn(self, report):
            return {"watched_loss": report.loss}

A *policy* decides and belongs to the network where the network asks it (`rl_nnunet.policies`); its agent trains it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
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


class Agent(ABC):
    """One learner beside the network. What is not abstract has a default that does nothing.

    Attributes
    ----------
    panels : sequence of Panel
        What to draw of the agent, and with it the keys that it logs.
    """

    panels: Sequence[Panel] = ()

    def before_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch that the network is to be trained on, by default the given one."""
        return batch

    @abstractmethod
    def learn(self, report: StepReport) -> dict[str, float | Tensor]:
        """Learn from a step; return its values of the log keys, as far as there are any, numbers or 0-d tensors."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restart needs and the network's weights do not hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most have nothing to restore
        """Restore what `state_dict` returned."""
