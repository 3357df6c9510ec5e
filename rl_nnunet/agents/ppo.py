"""Proximal policy optimization (PPO), the one implementation for all agents of the project.

Follows eq. 8-13 of RL-U2Net: transitions (s_t, a_t, r_t, s_t+1) are collected, and once there are N of them
the policy (actor) and the critic are updated in K epochs of random minibatches of M, each with its own Adam. The
state and the reward (eq. 8 and 9) are the agent's affair. `PPO.update_if_ready` is the algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from rl_nnunet.agents.transitions import Transitions, select
from rl_nnunet.progress_plot import Panel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PPOConfig:
    """Hyperparameters of PPO.

    Parameters
    ----------
    transitions_per_update : int
        N, how many transitions are collected before an update; at least 1.
    epochs : int
        K, how often an update passes over them; at least 1.
    minibatch_size : int
        M, transitions per gradient step; at least 1.
    clip : float
        epsilon of eq. 11, by how much the probability ratio may leave 1 before its gradient stops; in (0, 1).
    discount : float
        gamma of eq. 10 and 13, in [0, 1].
    policy_learning_rate, critic_learning_rate : float
        Of the two Adam optimizers; positive.
    entropy_weight : float
        Weight of the exploration bonus in the policy's loss; not negative.
    max_gradient_norm : float
        L2 norm to which the gradient of the policy, and that of the critic, is clipped; positive.
    weight_decay : float
        Of both optimizers; not negative.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    transitions_per_update: int = 64
    epochs: int = 4
    minibatch_size: int = 32
    clip: float = 0.2
    discount: float = 0.9
    policy_learning_rate: float = 3e-3
    critic_learning_rate: float = 3e-3
    entropy_weight: float = 0.01
    max_gradient_norm: float = 0.5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        in_range = {
            "transitions_per_update": self.transitions_per_update >= 1,
            "epochs": self.epochs >= 1,
            "minibatch_size": self.minibatch_size >= 1,
            "clip": 0 < self.clip < 1,
            "discount": 0 <= self.discount <= 1,
            "policy_learning_rate": self.policy_learning_rate > 0,
            "critic_learning_rate": self.critic_learning_rate > 0,
            "entropy_weight": self.entropy_weight >= 0,
            "max_gradient_norm": self.max_gradient_norm > 0,
            "weight_decay": self.weight_decay >= 0,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"PPOConfig: {name} is out of range: {getattr(self, name)}.")


class Policy(Protocol):
    """What `PPO` asks of a policy, which is an ``nn.Module`` besides."""

    def evaluate(self, context: dict[str, Tensor], action: Tensor) -> tuple[Tensor, Tensor]:
        """Judge actions under the policy's present parameters.

        Parameters
        ----------
        context : dict of str to Tensor
            What the policy had seen when it acted, each of shape (N, ...).
        action : Tensor
            The actions, shape (N, ...).

        Returns
        -------
        log_probability : Tensor
            Of each action, in nats, shape (N,); differentiable with respect to the parameters.
        entropy : Tensor
            Of the policy in each context, in nats, shape (N,); differentiable likewise.
        """
        ...


class Critic(nn.Module):
    """The value V(s) of eq. 10-13: a perceptron with two hidden tanh layers.

    Parameters
    ----------
    state_size : int
        Entries of the state; 3 in eq. 8.
    hidden_size : int
        Units per hidden layer.
    """

    def __init__(self, state_size: int = 3, hidden_size: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(state_size, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, hidden_size),
            nn.Tanh(),
            nn.Linear(hidden_size, 1),
        )

    def forward(self, state: Tensor) -> Tensor:
        """Return the values, shape (N,), of states of shape (N, S)."""
        return self.layers(state).squeeze(-1)


def clipped_surrogate(
    log_probability_new: Tensor, log_probability_old: Tensor, advantage: Tensor, clip: float
) -> Tensor:
    """Return PPO's policy loss, ``-mean(min(ratio A, clip(ratio, 1 - clip, 1 + clip) A))``.

    This is the clipped surrogate of Schulman et al. 2017. Eq. 11 of RL-U2Net as printed pulls the advantage out
    of the min, ``A min(ratio, clip(ratio))``, which is not PPO's objective for negative advantages: it has no
    gradient where the ratio exceeds 1 + clip, so a bad action that became too likely is never corrected, and
    keeps its gradient below 1 - clip, so the step is unbounded on the other side. Hence Schulman's.

    Parameters
    ----------
    log_probability_new, log_probability_old : Tensor
        Of the actions under the present policy and under the one that drew them, in nats, shape (N,).
    advantage : Tensor
        Shape (N,); no gradient should pass through it.
    clip : float
        epsilon, in (0, 1).

    Returns
    -------
    Tensor
        Scalar, to be minimized.
    """
    ratio = (log_probability_new - log_probability_old).exp()
    clipped_ratio = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage, clipped_ratio * advantage).mean()


def one_step_advantage(reward: Tensor, value: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """Return ``A_t = r_t + discount V(s_t+1) - V(s_t)``, eq. 10; all of shape (N,)."""
    return reward + discount * next_value - value


def value_loss(reward: Tensor, value: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """Return the mean squared error of the values, eq. 12; scalar.

    The target ``r_t + discount V(s_t+1)`` of eq. 13 is held fixed: no gradient passes through `reward` and
    `next_value`. Arguments are of shape (N,).
    """
    target = (reward + discount * next_value).detach()
    return (value - target).square().mean()


def standardize(x: Tensor) -> Tensor:
    """Return `x`, of shape (N,), with zero mean and unit standard deviation.

    A single element or N equal ones become exactly zero: subtracting the first element before the mean leaves no
    rounding error for the division to blow up.
    """
    shifted = x - x[0]
    return (shifted - shifted.mean()) / (shifted.std(correction=0) + 1e-8)


class PPO:
    """Collects the transitions of one policy and updates it and its critic.

    The update runs in float32 outside autocast, whatever surrounds it. It touches the gradients of the policy
    and of the critic only, and leaves them empty, so that it can run between the steps of another optimizer
    (though not between a forward pass through the policy and its backward pass: it changes the weights).

    Parameters
    ----------
    policy : nn.Module
        A `Policy`. Its parameters that require a gradient are optimized.
    critic : nn.Module
        Maps states (N, S) to values (N,); see `Critic`. Its weights are in `state_dict`.
    config : PPOConfig
        Hyperparameters.

    Attributes
    ----------
    transitions : Transitions
        What is collected; whoever owns the agent records it there.
    """

    def __init__(self, policy: nn.Module, critic: nn.Module, config: PPOConfig) -> None:
        self.policy = policy
        self.critic = critic
        self.config = config
        self._policy_parameters = [p for p in policy.parameters() if p.requires_grad]
        self._critic_parameters = list(critic.parameters())
        # eps as in the reference implementation of PPO, 1e-5 instead of Adam's 1e-8.
        common = {"eps": 1e-5, "weight_decay": config.weight_decay}
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, lr=config.policy_learning_rate, **common)
        self._critic_optimizer = torch.optim.Adam(self._critic_parameters, lr=config.critic_learning_rate, **common)
        self.transitions = Transitions()

    def __len__(self) -> int:
        """Return how many transitions are stored."""
        return len(self.transitions)

    def update_if_ready(self) -> dict[str, float] | None:
        """Update the policy and the critic once N transitions are stored, and forget them.

        All stored transitions are used. Minibatches are drawn with the global random generator of the CPU.

        Returns
        -------
        dict of str to float, or None
            Means over the update of ``policy_loss`` (without the entropy bonus), ``value_loss``, ``entropy``,
            ``clip_fraction``, ``approximate_kl`` (nats) and ``reward``; None where no update was due.
        """
        count = len(self)
        if count < self.config.transitions_per_update:
            return None
        config, batch = self.config, self.transitions.take_all()
        totals: dict[str, Tensor] = {}
        with torch.enable_grad(), torch.autocast(batch["reward"].device.type, enabled=False):
            # Advantages and targets come from the critic as it was during collection and stay fixed; where the agent
            # knows what was to be expected of the policy, that is the better baseline. Advantages are standardized
            # over all transitions, so that a small last minibatch does no harm.
            with torch.no_grad():
                next_value = self.critic(batch["next_state"]).masked_fill(batch["terminal"], 0)
                if "baseline" in batch:
                    advantage = standardize(batch["reward"] - batch["baseline"])
                else:
                    advantage = standardize(
                        one_step_advantage(batch["reward"], self.critic(batch["state"]), next_value, config.discount)
                    )
            batch |= {"next_value": next_value, "advantage": advantage}
            for _ in range(config.epochs):
                for indices in torch.randperm(count).split(config.minibatch_size):
                    metrics = self._step(select(batch, indices.to(advantage.device)))
                    for name, metric in metrics.items():
                        totals[name] = totals.get(name, 0) + metric * len(indices)
        means = {name: total.item() / (config.epochs * count) for name, total in totals.items()}
        return {**means, "reward": batch["reward"].mean().item()}

    def _step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Take one gradient step of the policy and one of the critic on a minibatch."""
        config = self.config
        log_probability, entropy = self.policy.evaluate(batch["context"], batch["action"])
        policy_loss = clipped_surrogate(log_probability, batch["log_probability"], batch["advantage"], config.clip)
        self._policy_optimizer.zero_grad()
        (policy_loss - config.entropy_weight * entropy.mean()).backward()
        clip_grad_norm_(self._policy_parameters, config.max_gradient_norm)
        self._policy_optimizer.step()
        self._policy_optimizer.zero_grad()

        critic_loss = value_loss(batch["reward"], self.critic(batch["state"]), batch["next_value"], config.discount)
        self._critic_optimizer.zero_grad()
        critic_loss.backward()
        clip_grad_norm_(self._critic_parameters, config.max_gradient_norm)
        self._critic_optimizer.step()
        self._critic_optimizer.zero_grad()

        with torch.no_grad():
            log_ratio = log_probability - batch["log_probability"]
            ratio = log_ratio.exp()
            return {
                "policy_loss": policy_loss.detach(),
                "value_loss": critic_loss.detach(),
                "entropy": entropy.mean(),
                "clip_fraction": ((ratio - 1).abs() > config.clip).float().mean(),
                # The low-variance, never negative estimate of KL(old || new): E[(ratio - 1) - log ratio].
                "approximate_kl": (ratio - 1 - log_ratio).mean(),
            }

    def state_dict(self) -> dict[str, Any]:
        """Return the critic's weights, both optimizers and the stored transitions.

        The policy's weights are not in it: they are part of the network, whose checkpoint holds them.
        """
        return {
            "critic": self.critic.state_dict(),
            "policy_optimizer": self._policy_optimizer.state_dict(),
            "critic_optimizer": self._critic_optimizer.state_dict(),
            "transitions": self.transitions.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; tensors are moved to the device of the critic."""
        device = self._critic_parameters[0].device
        self.critic.load_state_dict(state["critic"])
        self._policy_optimizer.load_state_dict(state["policy_optimizer"])
        self._critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.transitions.load_state_dict(state["transitions"], device)


def diagnostic_panels(name: str) -> tuple[Panel, ...]:
    """Return what to draw of the updates of an agent of some name: whether PPO's steps are of a size that it can take.

    The approximate KL divergence between the policies before and after should stay below some hundredths of a nat, the
    fraction of clipped ratios below a third; both at 0 mean that nothing is learnt.
    """
    return (
        Panel("PPO: approximate KL divergence of an update", "nats", (f"approximate_kl_{name}",)),
        Panel("PPO: fraction of clipped ratios", "fraction", (f"clip_fraction_{name}",)),
    )


def diagnostics(update: dict[str, float] | None, name: str) -> dict[str, float]:
    """Return the log entries of `diagnostic_panels`, given what `PPO.update_if_ready` returned; none without update."""
    return {f"{key}_{name}": update[key] for key in ("approximate_kl", "clip_fraction")} if update else {}
