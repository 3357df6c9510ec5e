"""Proximal policy optimization (PPO), the one implementation for all agents of the project.

Follows eq. 8-13 of RL-U2Net: transitions (s_t, a_t, r_t, s_t+1) are collected, and once there are N of them
the policy (actor) and the critic are updated in K epochs of random minibatches of M, each with its own Adam. The
state and the reward (eq. 8 and 9) are the agent's affair. `PPO.update_if_ready` is the algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from rl_nnunet.agents.ppo_config import PPOConfig
from rl_nnunet.agents.transitions import Transitions, select
from rl_nnunet.distributed import drawn_alike, gather, share_parameters, sum_over_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


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
        # Values of chance would exceed our rewards tenfold, and be the advantages until they are unlearnt.
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

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


def approximate_kl(log_probability_new: Tensor, log_probability_old: Tensor) -> Tensor:
    """Return ``(ratio - 1) - log ratio`` of every action, (N,), in nats.

    Its mean over actions that the old policy drew estimates KL(old || new) without bias, with little variance, and is
    never negative (Schulman, "Approximating KL Divergence", 2020).
    """
    log_ratio = log_probability_new - log_probability_old
    return log_ratio.exp() - 1 - log_ratio


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
    collects_alike : bool
        Whether all ranks (`rl_nnunet.distributed`) record the same transitions and draw the same numbers already, as an
        agent does that learns from validations. By default, each rank records those of its own batches, and all ranks
        learn from all of them.

    Attributes
    ----------
    transitions : Transitions
        What is collected; whoever owns the agent records it there.
    """

    def __init__(
        self, policy: nn.Module, critic: nn.Module, config: PPOConfig, *, collects_alike: bool = False
    ) -> None:
        self.policy = policy
        self.critic = critic
        self.config = config
        self.collects_alike = collects_alike
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

        All stored transitions are used. Minibatches are drawn with the global random generator of the CPU. The update
        ends with the step that would move the policy further than ``target_kl`` from the one that acted. Where several
        ranks train, all of them call this after every step: they count together, and make the same update.

        Returns
        -------
        dict of str to float, or None
            Means over the steps of the update: ``policy_loss`` (without the entropy bonus), ``entropy``, and
            ``value_loss`` where transitions have no baseline of their own; between the policies before and after it
            ``approximate_kl`` (nats) and ``clip_fraction``; the transitions' mean ``reward`` and the number of
            ``steps``. None where no update was due.
        """
        if self.collects_alike:
            return self._update() if len(self) >= self.config.transitions_per_update else None
        if sum_over_ranks([len(self)])[0] < self.config.transitions_per_update:
            return None
        chunks = [chunk for of_rank in gather(self.transitions.state_dict()) for chunk in of_rank]
        self.transitions.load_state_dict(chunks, self._critic_parameters[0].device)
        with drawn_alike():
            metrics = self._update()
        share_parameters(self.policy, self.critic)
        return metrics

    def _update(self) -> dict[str, float]:
        """Update with what is stored."""
        batch = self.transitions.take_all()
        with torch.enable_grad(), torch.autocast(batch["reward"].device.type, enabled=False):
            batch |= self._judge(batch)
            totals: dict[str, Tensor] = {}
            steps = 0
            for minibatch in self._minibatches(batch):
                steps += 1
                metrics, is_far = self._step(minibatch)
                totals = {name: totals.get(name, 0) + metric for name, metric in metrics.items()}
                if is_far:
                    break
        means = {name: (total / steps).item() for name, total in totals.items()}
        return {**means, **self._movement(batch), "reward": batch["reward"].mean().item(), "steps": steps}

    @torch.no_grad()
    def _judge(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return V(s_t+1) and the advantages, and set the size of the policy's steps.

        Both come from the critic as it was during collection and stay fixed; where the agent knows what was to be
        expected of the policy, that is the better baseline. Advantages are standardized over all
        transitions, so that a small last minibatch does no harm. That makes 1 of any spread, were it that of the last
        digit; and so does Adam, whatever the advantages are divided by. Hence it is the learning rate that is
        reduced where the spread is below `smallest_spread`: of the rewards, because an untrained critic makes
        advantages of nothing, and of the advantages, because rewards that it foresees leave nothing to learn.
        """
        config = self.config
        next_value = self.critic(batch["next_state"]).masked_fill(batch["terminal"], 0)
        if "baseline" in batch:
            advantage = batch["reward"] - batch["baseline"]
        else:
            advantage = one_step_advantage(batch["reward"], self.critic(batch["state"]), next_value, config.discount)
        spread = torch.minimum(batch["reward"].std(correction=0), advantage.std(correction=0)).item()
        shrink = min(1.0, spread / config.smallest_spread) if config.smallest_spread else 1.0
        for group in self._policy_optimizer.param_groups:
            group["lr"] = config.policy_learning_rate * shrink
        return {"next_value": next_value, "advantage": standardize(advantage)}

    def _minibatches(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the minibatches of all K epochs."""
        reward = batch["reward"]
        for _ in range(self.config.epochs):
            for indices in torch.randperm(len(reward)).split(self.config.minibatch_size):
                yield select(batch, indices.to(reward.device))

    def _step(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], bool]:
        """Take one gradient step of the policy, and one of the critic where it is asked, on a minibatch.

        Returns the step's metrics, and whether the policy is as far from the one that acted as it may get.
        """
        config = self.config
        log_probability, entropy = self.policy.evaluate(batch["context"], batch["action"])
        policy_loss = clipped_surrogate(log_probability, batch["log_probability"], batch["advantage"], config.clip)
        self._policy_optimizer.zero_grad()
        (policy_loss - config.entropy_weight * entropy.mean()).backward()
        clip_grad_norm_(self._policy_parameters, config.max_gradient_norm)
        is_far = self._move_policy(batch, approximate_kl(log_probability.detach(), batch["log_probability"]))
        self._policy_optimizer.zero_grad()

        metrics = {"policy_loss": policy_loss.detach(), "entropy": entropy.detach().mean()}
        if "baseline" not in batch:  # else nobody asks the critic
            metrics["value_loss"] = self._train_critic(batch)
        return metrics, is_far

    def _train_critic(self, batch: dict[str, Any]) -> Tensor:
        """Take one gradient step of the critic on a minibatch; return its loss."""
        loss = value_loss(batch["reward"], self.critic(batch["state"]), batch["next_value"], self.config.discount)
        self._critic_optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self._critic_parameters, self.config.max_gradient_norm)
        self._critic_optimizer.step()
        self._critic_optimizer.zero_grad()
        return loss.detach()

    @torch.no_grad()
    def _move_policy(self, batch: dict[str, Any], kl_before: Tensor) -> bool:
        """Take the policy's step, as far as ``target_kl`` allows; return whether that ends the update.

        Others stop after the step that went too far. With many actions that is too late: Adam's first step moves every
        weight by the learning rate, and the means of the actions by that times the hidden units. The divergence grows
        with the square of the distance, so that the step is cut where its root would reach that of the target.
        """
        target, start = self.config.target_kl, kl_before.mean().clamp(min=0)
        if start >= target:
            return True
        before = [parameter.clone() for parameter in self._policy_parameters]
        self._policy_optimizer.step()
        log_probability, _ = self.policy.evaluate(batch["context"], batch["action"])
        end = approximate_kl(log_probability, batch["log_probability"]).mean()
        if end <= target:
            return False
        share = (target**0.5 - start.sqrt()) / (end.sqrt() - start.sqrt())
        for parameter, old in zip(self._policy_parameters, before, strict=True):
            parameter.copy_(old.lerp(parameter, share))
        return True

    @torch.no_grad()
    def _movement(self, batch: dict[str, Any]) -> dict[str, float]:
        """Return how far the update moved the policy, over all transitions."""
        indices = torch.arange(len(batch["reward"]), device=batch["reward"].device)
        parts = (select(batch, part) for part in indices.split(self.config.minibatch_size))
        with torch.autocast(indices.device.type, enabled=False):
            log_probability = torch.cat([self.policy.evaluate(part["context"], part["action"])[0] for part in parts])
        old = batch["log_probability"]
        clipped = ((log_probability - old).exp() - 1).abs() > self.config.clip
        return {
            "approximate_kl": approximate_kl(log_probability, old).mean().item(),
            "clip_fraction": clipped.float().mean().item(),
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
