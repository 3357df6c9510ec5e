"""The agent of one XAlign module in training: from a training step to transitions, and from transitions to PPO.

RL-U2Net, equations 8-13: one agent with its own critic per aligned stage. Each link (a sample's main branch looking at
an auxiliary one) is one transition: state ``(1 - L_Dice, S, epoch fraction)`` of the last step in the same direction,
action the drawn rotations, reward ``(1 - L_Dice) + S``, next state that of this step.

``1 - L_Dice`` is the soft Dice of the main branch in this step's batch; S belongs to the link. The paper calls S the
cross-modal feature similarity; by default ours is the overlap of the two label maps after the drawn rotations
(`similarity="anatomical"`), because with feature similarity alone a policy can raise its reward without finding the
pose. ``"feature"`` is the paper's.

The paper's advantage (eq. 10) bootstraps from the next state, whose patches are others, whatever was drawn: that adds
noise and nothing else, so that the trainer's discount is 0. With label maps, S of *every* rotation is known, and with
it what was to be expected of the policy, ``sum_r pi(r) S_r``: it is the baseline, and the critic's guess is not needed.
For one drawn rotation this is the exact expectation of the reward; for K_sel > 1, where S is the mean over the drawn
ones, it is that of the first draw, which like every baseline that ignores the action leaves the gradient unbiased. The
Dice under other rotations is not known without a forward pass for each: it stands in reward and baseline and cancels,
so that the pose is learnt from S. With ``"feature"``, S is known of the drawn rotations only, and the critic is asked.

Links between crops that need not show the same anatomy (unpaired samples that the loader forced no class upon) are not
recorded. Their overlap says nothing of the pose, and a reward of 0 would be wrong: it would teach that any pose is bad
there, and move the mean by which advantages are standardized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rl_nnunet.agents.agent import Agent, StepReport
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig
from rl_nnunet.agents.ppo_diagnostics import diagnostic_panels, diagnostics
from rl_nnunet.losses.alignment import feature_cosine
from rl_nnunet.outputs import Alignment, to_device
from rl_nnunet.policies.pose import PosePolicy
from rl_nnunet.progress_plot import Panel, most_frequent

SimilarityKind = Literal["anatomical", "feature"]


@dataclass(frozen=True)
class PoseReport(StepReport):
    """What the pose agents learn from.

    Parameters
    ----------
    alignments : dict of int to Alignment
        By aligned stage; empty where no sample has two branches.
    link_branches : sequence of pair of int
        Main and auxiliary branch of each link.
    matched_links : sequence of int
        Which links join crops of the same anatomy.
    dice : dict of int to float
        Soft Dice of each present branch in this step, in [0, 1].
    similarities : Tensor or None
        S of each link after every rotation, (L, R) (`rl_nnunet.agents.rewards.anatomical_similarities`); None takes
        the similarity of the features.
    """

    alignments: dict[int, Alignment]
    link_branches: Sequence[tuple[int, int]]
    matched_links: Sequence[int]
    dice: dict[int, float]
    similarities: Tensor | None


class PoseAgent(Agent):
    """The agent of the module at one stage.

    Parameters
    ----------
    stage : int
        The aligned stage.
    policy : PosePolicy
        It belongs to the network, and only PPO trains it.
    num_branches : int
        Branches of the network.
    config : PPOConfig
        Of PPO.
    device : torch.device
        Of network, critic and buffers.
    """

    def __init__(
        self, stage: int, policy: PosePolicy, num_branches: int, config: PPOConfig, device: torch.device
    ) -> None:
        self.stage = stage
        self.ppo = PPO(policy, Critic().to(device), config)
        # Before the first step nothing is known: no overlap, no Dice, start of training.
        self.last_state = torch.zeros(num_branches, num_branches, 3, device=device)
        name = f"stage{stage}"
        self.panels = (
            Panel("pose agents: reward and similarity", "reward", (f"reward_{name}", f"similarity_{name}")),
            Panel("pose agents: policy entropy", "nats", (f"policy_entropy_{name}",)),
            Panel(
                "pose agents: most probable rotation", "index, 0 is the identity", (f"rotation_{name}",), most_frequent
            ),
            *diagnostic_panels(name),
        )

    def learn(self, report: PoseReport) -> dict[str, float | Tensor]:
        """Record one training step, and update the policy if enough are collected.

        Nothing is recorded without matched links, or where a Dice is not finite: an overflow under mixed precision,
        whose step nnU-Net skips too.
        """
        is_finite = all(map(math.isfinite, report.dice.values()))
        has_links = self.stage in report.alignments and bool(report.matched_links)
        logs = self._learn_from_links(report) if has_links and is_finite else {}
        # Without links of its own, a rank learns from those of the others.
        return {**logs, **diagnostics(self.ppo.update_if_ready(), f"stage{self.stage}")}

    def _learn_from_links(self, report: PoseReport) -> dict[str, Tensor]:
        """Record the matched links of a step, and describe them."""
        alignment, similarities = report.alignments[self.stage], report.similarities
        device = alignment.rotations.device
        dice = to_device([float(report.dice[report.link_branches[i][0]]) for i in report.matched_links], device)
        if len(report.matched_links) < len(report.link_branches):
            links = to_device(report.matched_links, device)
            alignment = select_links(alignment, links)
            similarities = None if similarities is None else similarities[links]
        with torch.no_grad():
            if similarities is None:
                similarity, expected = feature_cosine(alignment.main, alignment.aligned), None
            else:
                similarity = similarities.gather(1, alignment.rotations).mean(1)
                expected = (alignment.probabilities * similarities).sum(1)
            self._record(alignment, dice, similarity, expected, report.progress)
            return self._describe(alignment.probabilities, dice, similarity)

    def _record(
        self, alignment: Alignment, dice: Tensor, similarity: Tensor, expected: Tensor | None, progress: float
    ) -> None:
        main, auxiliary = alignment.context["branches"].unbind(1)
        next_state = torch.stack((dice, similarity, torch.full_like(similarity, progress)), dim=1)
        self.ppo.transitions.record(
            state=self.last_state[main, auxiliary],
            context=alignment.context,
            action=alignment.rotations,
            log_probability=alignment.log_probability,
            reward=dice + similarity,
            next_state=next_state,
            baseline=None if expected is None else dice + expected,
        )
        # The mean over the links of each direction; directions without a link keep their state.
        flat = self.last_state.flatten(0, 1)
        direction = main * self.last_state.shape[1] + auxiliary
        total = torch.zeros_like(flat).index_add(0, direction, next_state)
        count = torch.zeros_like(flat[:, 0]).index_add(0, direction, torch.ones_like(similarity))[:, None]
        self.last_state = torch.where(count > 0, total / count.clamp(min=1), flat).view_as(self.last_state)

    def _describe(self, probabilities: Tensor, dice: Tensor, similarity: Tensor) -> dict[str, Tensor]:
        """Return the step's log values, on the device: whoever logs fetches those of an epoch together."""
        name = f"stage{self.stage}"
        return {
            f"reward_{name}": (dice + similarity).mean(),
            f"similarity_{name}": similarity.mean(),
            f"policy_entropy_{name}": torch.special.entr(probabilities).sum(1).mean(),
            f"rotation_{name}": probabilities.mean(0).argmax(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return critic, optimizers, buffer and last states; the policy is part of the network's weights."""
        return {**self.ppo.state_dict(), "last_state": self.last_state.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ppo.load_state_dict(state)
        self.last_state = state["last_state"].to(self.last_state.device)


def select_links(alignment: Alignment, links: Tensor) -> Alignment:
    """Return some links of an alignment."""
    context = {name: x[links] for name, x in alignment.context.items()}
    return Alignment(*(context if isinstance(x, dict) else x[links] for x in alignment))
