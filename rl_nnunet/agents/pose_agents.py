"""The agents of RL-XAlign in training: from one training step to transitions, and from transitions to PPO.

RL-U2Net, equations 8-13: per aligned stage one agent with its own critic. Each link (a sample's main branch looking at
an auxiliary one) is one transition: state ``(1 - L_Dice, S, epoch fraction)`` of the last step in the same direction,
action the drawn rotations, reward ``(1 - L_Dice) + S``, next state that of this step.

``1 - L_Dice`` is the soft Dice of the main branch in this step's batch; S belongs to the link. The paper calls S the
cross-modal feature similarity; by default ours is the overlap of the two label maps after the drawn rotations
(`similarity="anatomical"`), because with feature similarity alone a policy can raise its reward without finding the
pose. ``"feature"`` is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from rl_nnunet.agents.pose_policy import PosePolicy, average_to_cube
from rl_nnunet.agents.ppo import PPO, Critic, PPOConfig
from rl_nnunet.agents.rotations import rotate
from rl_nnunet.losses.similarity import feature_cosine, label_overlap

SimilarityKind = Literal["anatomical", "feature"]

LABEL_EDGE = 32
"""Label maps are sampled to at most this edge in voxels before they are averaged to a cube; a whole patch of one-hot
labels would cost more than the network."""
LABEL_GRID = 16
"""Edge in voxels of the cube on which label maps are turned and compared."""


class StageAlignment(Protocol):
    """What one XAlign module did; see `rl_nnunet.networks.xalign.Alignment`."""

    main: Tensor
    aligned: Tensor
    context: dict[str, Tensor]
    rotations: Tensor
    log_probability: Tensor
    probabilities: Tensor


def label_cube(labels: Tensor, num_classes: int | None) -> Tensor:
    """Return foreground label maps averaged to a cube.

    Parameters
    ----------
    labels : Tensor
        (samples, 1, *spatial) integer labels, or (samples, regions, *spatial) of regions where `num_classes` is None.
    num_classes : int or None
        Foreground classes of an integer label map, counted from 1; labels above (the ignore label) count as none.

    Returns
    -------
    Tensor
        (samples, classes or regions, 16, ...) in [0, 1].
    """
    size = [min(edge, LABEL_EDGE) for edge in labels.shape[2:]]
    sampled = F.interpolate(labels.float(), size=size, mode="nearest-exact")
    if num_classes is not None:
        sampled = torch.cat([sampled == label for label in range(1, num_classes + 1)], dim=1).float()
    return average_to_cube(sampled, LABEL_GRID)


def anatomical_similarity(main: Tensor, auxiliary: Tensor, rotations: Tensor) -> Tensor:
    """Return the overlap of label cubes after each link's drawn rotations, averaged over them, (L,) in [0, 1]."""
    dimension = main.ndim - 2
    turned = [
        torch.stack([rotate(one, index, dimension) for index in drawn])
        for one, drawn in zip(auxiliary, rotations.tolist(), strict=True)
    ]
    drawn = rotations.shape[1]
    overlap = label_overlap(main.repeat_interleave(drawn, dim=0), torch.cat(turned))
    return overlap.view(-1, drawn).mean(1)


class PoseAgents:
    """All agents of a network, one per aligned stage.

    Parameters
    ----------
    policies : sequence of PosePolicy
        The policies of the aligned stages; they belong to the network, and only PPO trains them.
    num_branches : int
        Branches of the network.
    config : PPOConfig
        Of every agent.
    device : torch.device
        Of network, critics and buffers.
    """

    def __init__(
        self, policies: Sequence[PosePolicy], num_branches: int, config: PPOConfig, device: torch.device
    ) -> None:
        self.agents = [PPO(policy, Critic().to(device), config) for policy in policies]
        # Before the first step nothing is known: no overlap, no Dice, start of training.
        self.last_state = torch.zeros(len(policies), num_branches, num_branches, 3, device=device)

    def learn(
        self,
        alignments: Sequence[StageAlignment],
        dice: dict[int, float],
        label_cubes: tuple[Tensor, Tensor] | None,
        progress: float,
    ) -> list[dict[str, float]]:
        """Record one training step, and update each agent that has collected enough.

        Parameters
        ----------
        alignments : sequence of StageAlignment
            One per agent.
        dice : dict of int to float
            Soft Dice of each branch in this step, in [0, 1].
        label_cubes : pair of Tensor or None
            Of the links' main and auxiliary samples (see `label_cube`); None takes the similarity of the features.
        progress : float
            Epoch fraction, in [0, 1].

        Returns
        -------
        list of dict
            Per agent ``reward``, ``similarity``, ``entropy`` (nats), ``confidence`` (mean highest probability) and
            ``rotation`` (index of the rotation with the highest mean probability). Empty, and nothing is recorded,
            where a Dice is not finite: an overflow under mixed precision, whose step nnU-Net skips, too.
        """
        if not all(math.isfinite(value) for value in dice.values()):
            return []
        reports = []
        for stage, (agent, alignment) in enumerate(zip(self.agents, alignments, strict=True)):
            with torch.no_grad():
                if label_cubes is None:
                    similarity = feature_cosine(alignment.main.float(), alignment.aligned.float())
                else:
                    similarity = anatomical_similarity(*label_cubes, alignment.rotations)
            self._record(stage, alignment, dice, similarity, progress)
            agent.update_if_ready()
            reports.append(self._describe(alignment, dice, similarity))
        return reports

    def _record(
        self, stage: int, alignment: StageAlignment, dice: dict[int, float], similarity: Tensor, progress: float
    ) -> None:
        main, auxiliary = alignment.context["branches"].unbind(1)
        dice_of_main = torch.tensor([dice[b] for b in main.tolist()], device=similarity.device)
        next_state = torch.stack((dice_of_main, similarity, torch.full_like(similarity, progress)), dim=1)
        self.agents[stage].record(
            state=self.last_state[stage, main, auxiliary],
            context=alignment.context,
            action=alignment.rotations,
            log_probability=alignment.log_probability,
            reward=dice_of_main + similarity,
            next_state=next_state,
        )
        for direction in alignment.context["branches"].unique(dim=0):
            links = (alignment.context["branches"] == direction).all(1)
            self.last_state[stage, direction[0], direction[1]] = next_state[links].mean(0)

    @staticmethod
    def _describe(alignment: StageAlignment, dice: dict[int, float], similarity: Tensor) -> dict[str, float]:
        probabilities = alignment.probabilities
        main = alignment.context["branches"][:, 0].tolist()
        mean_similarity = similarity.mean().item()
        return {
            "reward": sum(dice[b] for b in main) / len(main) + mean_similarity,
            "similarity": mean_similarity,
            "entropy": torch.special.entr(probabilities).sum(1).mean().item(),
            "confidence": probabilities.amax(1).mean().item(),
            "rotation": probabilities.mean(0).argmax().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return critics, optimizers, buffers and last states; the policies are part of the network's weights."""
        return {"agents": [agent.state_dict() for agent in self.agents], "last_state": self.last_state.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for agent, agent_state in zip(self.agents, state["agents"], strict=True):
            agent.load_state_dict(agent_state)
        self.last_state = state["last_state"].to(self.last_state.device)
