"""The mask agent: it learns what is important by erasing it.

Cheng et al. (APGA, see `rl_nnunet.policies.mask`), section 2.3 and algorithm 1. The *adversarial* image is the original
without what the policy holds important. Reward, eq. 6: ``R = L_adversarial - L_original``, the rise of the task's loss.
The policy's loss, eq. 7: ``L_BCE(p, a) (R - b) + lambda L_BCE(p, 0)``, where a is 1 where a pixel was erased, b the
exponential moving average of the reward, and the second term the penalty of erasing everything.

`PaperMaskAgent` is that. It does not find what is important, for three reasons. The action is a threshold of p: where
(R - b) is positive, p moves away from 0.5 in both directions, and nothing is ever tried. R is one number for all images
and all of their pixels. And as R settles, (R - b) vanishes while the penalty stays, so that p falls below 0.5
everywhere: nothing is erased any more, the reward is 0, and the aided image is blank.

`MaskAgent` differs in five things. Coarse cells are drawn. Each image is masked in several ways; the advantage of
each is its reward, standardized over those of the same image. The log-probability is the sum over the cells, not their
mean, and so is the penalty: eq. 7 multiplied by N, which Adam does not notice. An aided image keeps the cells that are
drawn as important. And the penalty of an image is weighted with the share of the possible reward that its masks earn
(`held_share`), the possible one being that of erasing everything. With a fixed weight, there is no way back from
erasing nothing: a network that needs to see only a part of a structure gives no reward for erasing another part, and
the penalty wins. With ours, whatever is given up in reward is given up in penalty, too.

A planted square decided the class of an image of noise (tests/agents/test_planted_square.py, 8 x 8 cells, batches of
32). After 150 steps, our masks covered 0.97 to 0.99 of the square with an IoU of 0.52 to 0.62 (three seeds; all cells
that touch the square have 0.67). Without the weight of the penalty, they erased nothing. With one draw per image,
standardized over the batch, they covered 0.46 to 0.56 after 300 steps. The paper's form erased nothing after 200.

The paper is not of one mind. Algorithm 1 compares p with the mask of what is *kept* (lines 8 and 12), with which
erasing what matters would make it less probable; its line 14 has neither lambda nor b. We follow eq. 3-7, and so does
the authors' script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.agents.agent import StepReport
from rl_nnunet.agents.masks import IS_AIDED, MaskConfig, MaskSource, SampleLosses
from rl_nnunet.distributed import all_agree, average_gradients, sum_over_ranks, world_size
from rl_nnunet.policies.mask import MaskPolicy, binary_cross_entropy, draw, entropy, log_probability, thresholded
from rl_nnunet.presence.erasing import erase
from rl_nnunet.progress_plot import Panel

SMALLEST_SPREAD = 1e-3
"""Deviation of the rewards of one image, in units of the task's loss, below which its advantages shrink with it."""
SCRIPT_REWARD_WEIGHT, SCRIPT_ZEROS_WEIGHT, SCRIPT_ONES_WEIGHT = 100.0, 0.1, 0.01
"""Weights in the loss of the authors' script."""


class MaskAgent(MaskSource):
    """Draws masks of cells and learns from what the task network loses by them.

    Parameters
    ----------
    policy : MaskPolicy
        It does not belong to the network; its weights are part of the agent's state.
    losses : callable
        Returns the losses of the task network without gradient, and without a trace in it (`SampleLosses`).
    groups : sequence of sequence of int
        Channels of every group; each group has a mask of its own.
    blank_values : Tensor
        Value of each channel where it is absent, and where it is erased, (channels,). As the policy and the batches, on
        the device of the network.
    config : MaskConfig
        Settings.
    """

    panels = (
        Panel("reward of the mask agent", "rise of the loss", ("mask_reward",)),
        Panel("share of the adversarial images that is erased", "share", ("mask_erased",)),
        Panel("entropy of the mask policy", "nats per cell", ("mask_entropy",)),
    )

    def __init__(
        self,
        policy: MaskPolicy,
        losses: SampleLosses,
        groups: Sequence[Sequence[int]],
        blank_values: Tensor,
        config: MaskConfig,
    ) -> None:
        self.policy = policy
        self.losses = losses
        self.groups = groups
        self.blank_values = blank_values
        self.config = config
        self.optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)

    # ---- the policy step -------------------------------------------------------------------------------------------

    def learn(self, report: StepReport) -> dict[str, float | Tensor]:
        """Learn from the batch of a step on original images, which has updated the task network.

        Nothing is learnt where a loss is not finite: an overflow under mixed precision. Where several ranks train, they
        average their gradients, as the task network does.
        """
        if not self.is_on or report.batch.get(IS_AIDED):
            return {}
        logits = self.policy(self.views(report.batch["data"]))
        actions = self.act(logits.detach())
        rewards, possible = self.rewards(report.batch, actions)
        if all_agree(bool(rewards.isfinite().all() and possible.isfinite().all())):
            loss = self.policy_loss(logits, actions, rewards, possible)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(self.policy.parameters())
            self.optimizer.step()
        return {
            "mask_reward": rewards.mean(),
            "mask_erased": actions.float().mean(),
            "mask_entropy": entropy(logits.detach()).mean() / logits[0].numel(),
        }

    @torch.no_grad()
    def rewards(self, batch: dict[str, Any], actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return eq. 6 of every action, (draws, V), and of erasing everything, (V,), for actions (draws, V, *grid)."""
        everything = torch.ones_like(actions[:1])
        tried = torch.cat((actions, everything))
        rewards = (
            torch.stack([self._adversarial_losses(batch, cells) for cells in tried]) - self.losses(batch).flatten()
        )
        return rewards[:-1], rewards[-1]

    def _adversarial_losses(self, batch: dict[str, Any], cells: Tensor) -> Tensor:
        """Return the losses (V,) of the images without some cells (V, *grid)."""
        erased = erase(batch["data"], self._of_groups(cells), self.groups, self.blank_values)
        return self.losses({**batch, "data": erased}).flatten()

    def act(self, logits: Tensor) -> Tensor:
        """Return the actions of the adversarial images, booleans (draws, V, *grid)."""
        return torch.stack([draw(logits) for _ in range(self.config.draws)])

    def policy_loss(self, logits: Tensor, actions: Tensor, rewards: Tensor, possible: Tensor) -> Tensor:
        """Return eq. 7 times the number of cells, with standardized advantages in the place of R - b.

        Parameters
        ----------
        logits : Tensor
            (V, *grid), with gradient.
        actions : Tensor
            (draws, V, *grid).
        rewards, possible : Tensor
            See `rewards`: (draws, V) and (V,).
        """
        log_probabilities = torch.stack([log_probability(logits, action) for action in actions])
        of_zeros = -log_probability(logits, torch.zeros_like(logits))
        penalty = self.config.penalty * held_share(rewards, possible) * of_zeros
        return penalty.mean() - (log_probabilities * standardized(rewards)).mean()

    # ---- images and masks of groups --------------------------------------------------------------------------------

    def views(self, data: Tensor) -> Tensor:
        """Return what the policy sees, (V, channels, *spatial): each image once per group, other groups blank."""
        if len(self.groups) == 1:
            return data
        blank = self.blank_values.to(data.dtype).view(1, -1, *[1] * (data.ndim - 2)).expand_as(data)
        views = torch.stack([blank] * len(self.groups), dim=1)
        for group, channels in enumerate(self.groups):
            views[:, group, list(channels)] = data[:, list(channels)]
        return views.flatten(0, 1)

    def _of_groups(self, cells: Tensor) -> Tensor:
        """Return the masks of voxels, (B, groups, *spatial), of masks of cells (V, *grid)."""
        return self.policy.to_voxels(cells).unflatten(0, (-1, len(self.groups)))

    @torch.no_grad()
    def keep(self, batch: dict[str, Any]) -> Tensor:
        """Return the voxels of the cells that the policy, as it is now, draws as important."""
        return self._of_groups(self.aid(self.policy(self.views(batch["data"]))))

    def aid(self, logits: Tensor) -> Tensor:
        """Return which cells an aided image keeps, booleans of the shape of the logits."""
        return draw(logits)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's weights and its optimizer's state."""
        return {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])


class PaperMaskAgent(MaskAgent):
    """The paper's eq. 3-7 with the action that it has: the threshold of p. Parameters are those of `MaskAgent`.

    The reward is that of the batch. The first one is where the moving average starts, and b_t contains R_t, as in the
    authors' script; the paper says neither.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.baseline: float | None = None

    def act(self, logits: Tensor) -> Tensor:
        """Return the one action that there is, (1, V, *grid)."""
        return thresholded(logits)[None]

    def aid(self, logits: Tensor) -> Tensor:
        """Return the complement of what the paper erases: what has p < 0.5."""
        return thresholded(logits)

    def policy_loss(self, logits: Tensor, actions: Tensor, rewards: Tensor, possible: Tensor) -> Tensor:
        """Return eq. 7; shapes are those of `MaskAgent.policy_loss` with one draw."""
        advantage = self.advantage(float(rewards.mean()))
        of_action = binary_cross_entropy(logits, actions[0]).mean()
        of_zeros = binary_cross_entropy(logits, torch.zeros_like(logits)).mean()
        return of_action * advantage + of_zeros * self.config.penalty

    def advantage(self, reward: float) -> float:
        """Return R_t - b_t, and move the average: ``b_t = decay b_t-1 + (1 - decay) R_t``, ``b_1 = R_1``.

        The reward is that of this rank's batch, R_t that of the batches of all.
        """
        reward = sum_over_ranks([reward])[0] / world_size()
        before = reward if self.baseline is None else self.baseline
        self.baseline = self.config.decay * before + (1 - self.config.decay) * reward
        return reward - self.baseline

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `MaskAgent`, and the moving average."""
        return {**super().state_dict(), "baseline": self.baseline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.baseline = state["baseline"]


class ScriptMaskAgent(PaperMaskAgent):
    """With the loss of the authors' script (apga_mura.py of the repository that the paper names), read, not run.

    ``100 L_BCE(p, a) A + 0.1 |A| L_BCE(p, 0) + 0.01 |A| L_BCE(p, 1)`` with A = R - b: both extremes are penalized, and
    the penalties vanish with the advantage. The script takes L_original from the training pass in training mode, ours
    like L_adversarial from a pass in evaluation mode after it.
    """

    def policy_loss(self, logits: Tensor, actions: Tensor, rewards: Tensor, possible: Tensor) -> Tensor:
        """Return the script's loss; shapes are those of `MaskAgent.policy_loss` with one draw."""
        advantage = self.advantage(float(rewards.mean()))
        of_action = binary_cross_entropy(logits, actions[0]).mean()
        of_zeros = binary_cross_entropy(logits, torch.zeros_like(logits)).mean()
        of_ones = binary_cross_entropy(logits, torch.ones_like(logits)).mean()
        penalty = SCRIPT_ZEROS_WEIGHT * of_zeros + SCRIPT_ONES_WEIGHT * of_ones
        return SCRIPT_REWARD_WEIGHT * of_action * advantage + penalty * abs(advantage)


def standardized(rewards: Tensor) -> Tensor:
    """Return the advantage of every draw, (draws, V): the reward less the mean of its image, over their deviation.

    Where the rewards of an image differ by less than `SMALLEST_SPREAD`, the advantage shrinks with them.
    """
    deviation = rewards.std(0, correction=0)
    return (rewards - rewards.mean(0)) / deviation.clamp_min(SMALLEST_SPREAD)


def held_share(rewards: Tensor, possible: Tensor) -> Tensor:
    """Return the share of the possible reward that the masks of each image earn, in [0, 1], (V,).

    1 where erasing everything raises the loss by less than `SMALLEST_SPREAD`: there is nothing to be earned, and
    nothing to be erased.

    Parameters
    ----------
    rewards : Tensor
        (draws, V).
    possible : Tensor
        Reward of erasing everything, (V,).
    """
    share = rewards.mean(0) / possible.clamp_min(SMALLEST_SPREAD)
    return torch.where(possible > SMALLEST_SPREAD, share.clamp(0, 1), 1.0)
