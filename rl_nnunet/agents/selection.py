"""The selection agent: learns which modality a decision is better made without.

A network that fuses modalities voxel by voxel cannot see that one of them is shifted, or another patient's: every voxel
looks like one of a scan. What shows it is the whole patch: the segmentation that each modality would give alone does
not agree with those of the others. The agent sees that (`rl_nnunet.networks.observer`), and can act: leave one out.

The reward of an action is ``p(action) - p(none)``, what the class-averaged probability of the true label
(`rl_nnunet.agents.rewards.true_label_probability`) gains over the decision with all modalities. There are M + 1
actions, and each costs a decoder pass without gradient over maps that are there already. So all rewards are known, and
nothing is drawn: the agent follows the exact gradient of

    J = sum_a pi(a) r(a) / sigma + tau H(pi),

with the rewards' running root mean square sigma and the entropy H in nats. Its maximum is known, ``pi(a)`` proportional
to ``exp(r(a) / (sigma tau))``, and its most probable action is the best one. The second term is needed: leaving out a
modality is mostly wrong, so that without it a policy learns to leave out nothing, has no gradient left there, and never
learns when to. Drawn actions with PPO ended so, with the exact expectation for a baseline and without
(docs/benchmarks.md).

J does not depend on who acted. So every sample serves more than once: the agent keeps the last of them and learns from
random minibatches. One pass over each was not enough while the network, and with it what can be gained, still changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.agents.agent import Agent, StepReport
from rl_nnunet.distributed import drawn_alike, gather, share_parameters
from rl_nnunet.outputs import Selection, to_device
from rl_nnunet.policies.selection import SelectionPolicy
from rl_nnunet.progress_plot import Panel

TINY = 1e-6


@dataclass(frozen=True)
class SelectionConfig:
    """How the selection agent learns.

    Parameters
    ----------
    learning_rate : float
        Of its Adam.
    temperature : float
        tau, in units of the rewards' root mean square, per nat; above 0.
    momentum : float
        Of the running mean square of the rewards, in [0, 1).
    memory : int
        Samples that are kept; few enough that the network has not become another one since.
    updates : int
        Gradient steps after each step of the network in which actions were tried.
    minibatch_size : int
        Samples of a gradient step.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    learning_rate: float = 3e-3
    temperature: float = 0.3
    momentum: float = 0.99
    memory: int = 512
    updates: int = 4
    minibatch_size: int = 64

    def __post_init__(self) -> None:
        """Check the ranges."""
        are_positive = min(self.learning_rate, self.temperature, self.memory, self.updates, self.minibatch_size) > 0
        if not are_positive or not 0 <= self.momentum < 1:
            raise ValueError(f"SelectionConfig: a value is out of range: {self}.")


@dataclass(frozen=True)
class SelectionReport(StepReport):
    """What the selection agent learns from.

    Parameters
    ----------
    selection : Selection or None
        What the policy saw and could have done; None in steps in which that was not tried.
    rewards : Tensor or None
        r(a) of every action, (B, M + 1), 0 for the last; None likewise.
    """

    selection: Selection | None
    rewards: Tensor | None


def objective(log_probabilities: Tensor, rewards: Tensor, temperature: float) -> Tensor:
    """Return J, averaged over samples, of rewards in units of sigma.

    Parameters
    ----------
    log_probabilities : Tensor
        (B, A); minus infinity of actions that are not possible.
    rewards : Tensor
        (B, A); of actions that are not possible, anything finite.
    temperature : float
        tau.
    """
    probabilities = log_probabilities.exp()
    # 0 ln 0 is 0, and so is its gradient; torch would make NaN of it.
    finite = log_probabilities.masked_fill(log_probabilities.isinf(), 0)
    return (probabilities * (rewards - temperature * finite)).sum(1).mean()


class SelectionAgent(Agent):
    """Trains the policy of a network that selects.

    Parameters
    ----------
    modalities : sequence of str
        Names of the modalities.
    policy : SelectionPolicy
        It belongs to the network, and only this agent trains it.
    config : SelectionConfig
        How it learns.
    """

    def __init__(self, modalities: Sequence[str], policy: SelectionPolicy, config: SelectionConfig) -> None:
        self.policy = policy
        self.config = config
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
        self.mean_square: Tensor | None = None
        self.memory: dict[str, Tensor] = {}
        self.keys = tuple(f"left_out_{modality}" for modality in modalities)
        self.panels = (
            Panel("selection agent: probability to leave out a modality", "probability", self.keys),
            Panel(
                "selection agent: gain in the probability of the true label",
                "probability",
                ("selection_gain", "selection_best_gain"),
            ),
        )

    def learn(self, report: SelectionReport) -> dict[str, float | Tensor]:
        """Take gradient steps on J if the actions were tried in this step.

        Nothing is learnt where a reward is not finite: an overflow under mixed precision, whose step nnU-Net skips.
        Where several ranks train, all of them learn the same, from the samples of those that have tried.
        """
        own = {}
        if report.selection is not None and report.rewards.isfinite().all():
            own = {
                "observations": report.selection.observations.float(),
                "present": report.selection.present,
                "rewards": report.rewards,
            }
        tried = [samples for samples in gather(own) if samples]
        if not tried:
            return {}
        device = next(self.policy.parameters()).device
        new = {name: torch.cat([samples[name].to(device) for samples in tried]) for name in tried[0]}
        with torch.no_grad():
            logs = self._describe(self.policy.log_probabilities(new["observations"], new["present"]), new["rewards"])
        scale = self._scale(new["rewards"])
        self._remember(new)
        with drawn_alike():
            for _ in range(self.config.updates):
                self._update(scale)
        share_parameters(self.policy)
        return logs

    def _remember(self, samples: dict[str, Tensor]) -> None:
        for name, values in samples.items():
            kept = torch.cat((self.memory[name], values)) if self.memory else values
            samples[name] = kept[-self.config.memory :].detach()
        self.memory = samples

    def _update(self, scale: Tensor) -> None:
        """Take one gradient step on a minibatch, drawn with the global generator of the CPU."""
        size = len(self.memory["rewards"])
        chosen = to_device(torch.randperm(size)[: self.config.minibatch_size].tolist(), scale.device)
        part = {name: values[chosen] for name, values in self.memory.items()}
        with torch.enable_grad():
            logs = self.policy.log_probabilities(part["observations"], part["present"])
            self.optimizer.zero_grad()
            (-objective(logs, part["rewards"] / scale, self.config.temperature)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _scale(self, rewards: Tensor) -> Tensor:
        """Return the root of the running mean square of all actions' rewards, this step's included."""
        present = rewards[:, :-1].square().mean()
        momentum = 0.0 if self.mean_square is None else self.config.momentum
        before = present if self.mean_square is None else self.mean_square
        self.mean_square = momentum * before + (1 - momentum) * present
        return self.mean_square.sqrt().clamp(min=TINY)

    def _describe(self, log_probabilities: Tensor, rewards: Tensor) -> dict[str, Tensor]:
        probabilities = log_probabilities.exp()
        chosen = rewards.gather(1, log_probabilities.argmax(1, keepdim=True))
        possible = rewards.masked_fill(log_probabilities.isinf(), -torch.inf)
        return {
            **dict(zip(self.keys, probabilities[:, :-1].mean(0), strict=True)),
            "selection_gain": chosen.mean(),
            "selection_best_gain": possible.amax(1).mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return optimizer, running mean square and memory; the policy is part of the network's weights."""
        return {"optimizer": self.optimizer.state_dict(), "mean_square": self.mean_square, "memory": dict(self.memory)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        saved, device = state["mean_square"], next(self.policy.parameters()).device
        self.mean_square = None if saved is None else saved.to(device)
        self.memory = {name: values.to(device) for name, values in state["memory"].items()}
