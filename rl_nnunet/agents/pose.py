"""The agent of one XAlign module in training: from a training step to transitions, and from transitions to PPO.

RL-U2Net, equations 8-13: one agent with its own critic per aligned stage. Each link (a sample's main branch looking at
an auxiliary one) is one transition: state ``(1 - L_Dice, S, epoch fraction)`` of the last step in the same direction,
action the drawn rotations, reward ``(1 - L_Dice) + S``, next state that of this step.

``1 - L_Dice`` is the soft Dice of the main branch in this step's batch; S belongs to the link. The paper calls S the
cross-modal feature similarity; by default ours is the overlap of the two label maps after the drawn rotations
(`similarity="anatomical"`), because with feature similarity alone a policy can raise its reward without finding the
pose. ``"feature"`` is the paper's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rl_nnunet.agents.agent import Agent, StepReport
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig, diagnostic_panels, diagnostics
from rl_nnunet.agents.rewards import anatomical_similarity
from rl_nnunet.losses.alignment import feature_cosine
from rl_nnunet.outputs import Alignment
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
    dice : dict of int to float
        Soft Dice of each present branch in this step, in [0, 1].
    label_cubes : pair of Tensor or None
        Of the links' main and auxiliary samples (see `rl_nnunet.agents.rewards.label_cube`); None takes the similarity
        of the features.
    """

    alignments: dict[int, Alignment]
    dice: dict[int, float]
    label_cubes: tuple[Tensor, Tensor] | None


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

    def learn(self, report: PoseReport) -> dict[str, float]:
        """Record one training step, and update the policy if enough are collected.

        Nothing is recorded where a Dice is not finite: an overflow under mixed precision, whose step nnU-Net skips too.
        """
        if self.stage not in report.alignments or not all(map(math.isfinite, report.dice.values())):
            return {}
        alignment = report.alignments[self.stage]
        with torch.no_grad():
            if report.label_cubes is None:
                similarity = feature_cosine(alignment.main.float(), alignment.aligned.float())
            else:
                similarity = anatomical_similarity(*report.label_cubes, alignment.rotations)
        self._record(alignment, report.dice, similarity, report.progress)
        update = self.ppo.update_if_ready()
        return {**self._describe(alignment, report.dice, similarity), **diagnostics(update, f"stage{self.stage}")}

    def _record(self, alignment: Alignment, dice: dict[int, float], similarity: Tensor, progress: float) -> None:
        directions = alignment.context["branches"]
        main, auxiliary = directions.unbind(1)
        dice_of_main = torch.tensor([dice[b] for b in main.tolist()], device=similarity.device)
        next_state = torch.stack((dice_of_main, similarity, torch.full_like(similarity, progress)), dim=1)
        self.ppo.transitions.record(
            state=self.last_state[main, auxiliary],
            context=alignment.context,
            action=alignment.rotations,
            log_probability=alignment.log_probability,
            reward=dice_of_main + similarity,
            next_state=next_state,
        )
        for direction in directions.unique(dim=0):
            links = (directions == direction).all(1)
            self.last_state[direction[0], direction[1]] = next_state[links].mean(0)

    def _describe(self, alignment: Alignment, dice: dict[int, float], similarity: Tensor) -> dict[str, float]:
        probabilities, name = alignment.probabilities, f"stage{self.stage}"
        main = alignment.context["branches"][:, 0].tolist()
        mean_similarity = similarity.mean().item()
        return {
            f"reward_{name}": sum(dice[b] for b in main) / len(main) + mean_similarity,
            f"similarity_{name}": mean_similarity,
            f"policy_entropy_{name}": torch.special.entr(probabilities).sum(1).mean().item(),
            f"rotation_{name}": probabilities.mean(0).argmax().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return critic, optimizers, buffer and last states; the policy is part of the network's weights."""
        return {**self.ppo.state_dict(), "last_state": self.last_state.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ppo.load_state_dict(state)
        self.last_state = state["last_state"].to(self.last_state.device)
