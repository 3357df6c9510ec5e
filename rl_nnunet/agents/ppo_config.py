"""Hyperparameters of `rl_nnunet.agents.ppo.PPO`."""

from __future__ import annotations

from dataclasses import dataclass


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
    target_kl : float
        KL divergence, in nats, of the present policy from the one that acted, at which an update ends before its K
        epochs are over; positive, infinity never ends one. The paper has no such limit; without it, rewards that are
        nothing but noise move a policy of many actions by several nats an update.
    smallest_spread : float
        Standard deviation of rewards (or of advantages) below which the policy's steps shrink with it; not negative, 0
        never shrinks them. Our rewards are Dice coefficients and probabilities: what differs by less than a thousandth
        of those is not worth a step of full size.

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
    target_kl: float = 0.04
    smallest_spread: float = 1e-3

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
            "target_kl": self.target_kl > 0,
            "smallest_spread": self.smallest_spread >= 0,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"PPOConfig: {name} is out of range: {getattr(self, name)}.")
