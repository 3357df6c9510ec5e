"""The pose policy of RL-XAlign: which cube rotation turns the auxiliary map into the pose of the main map.

RL-U2Net's actor is one learnt preference per rotation, theta in R^24, for all inputs (`kind="global"`): it cannot
follow a misalignment that differs from case to case. Ours is *contextual* by default: the logits are
``theta_r + beta * S(F_main, R_r F_auxiliary)``, with S the cosine similarity of the projected and centered maps after
each rotation. Projections (one per branch and module) and beta are the agent's parameters, trained by PPO only.

Both maps are averaged to a cubic grid first, where every rotation is exact; a projection is linear, so it commutes
with the average, and the averaged maps are all that a transition has to remember.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rl_nnunet.policies import plackett_luce
from rl_nnunet.policies.rotations import rotate_all, rotation_matrices

PolicyKind = Literal["contextual", "global"]


def average_to_cube(x: Tensor, grid: int) -> Tensor:
    """Average (B, C, *spatial) to a cubic grid (B, C, grid, ...); coarser axes are repeated, none is cropped."""
    pool = F.adaptive_avg_pool3d if x.ndim == 5 else F.adaptive_avg_pool2d
    return pool(x.float(), (grid,) * (x.ndim - 2))


class PosePolicy(nn.Module):
    """Distribution over the rotations, for every direction (ordered pair of branches) of one XAlign module.

    Parameters
    ----------
    channels : int
        Channels of the feature maps.
    dimension : int
        2 (4 rotations) or 3 (24 rotations).
    num_branches : int
        Branches of the network.
    kind : {"contextual", "global"}
        See the module's text.
    projection_channels : int
        Channels in which main and auxiliary maps are compared.
    grid : int
        Edge of the cube on which they are compared, in voxels. Every transition remembers two maps of this size.
    """

    def __init__(
        self,
        channels: int,
        dimension: int,
        num_branches: int,
        kind: PolicyKind = "contextual",
        projection_channels: int = 16,
        grid: int = 6,
    ) -> None:
        super().__init__()
        if kind not in ("contextual", "global"):
            raise ValueError(f'the policy must be "contextual" or "global", not {kind!r}')
        self.dimension = dimension
        self.kind = kind
        self.grid = grid
        rotations = len(rotation_matrices(dimension))
        self.preferences = nn.Parameter(torch.zeros(num_branches, num_branches, rotations))
        if kind == "contextual":
            # All branches start from the same projection: the encoder is shared, so equal anatomy starts out similar.
            projection = torch.randn(projection_channels, channels) / math.sqrt(channels)
            self.projections = nn.Parameter(projection.repeat(num_branches, 1, 1))
            self.sharpness = nn.Parameter(torch.tensor(5.0))

    @torch.no_grad()
    def context(self, main: Tensor, auxiliary: Tensor, branches: Tensor) -> dict[str, Tensor]:
        """Return what the policy looks at, detached from the network.

        Parameters
        ----------
        main, auxiliary : Tensor
            Feature maps (L, C, *spatial) of the links.
        branches : Tensor
            Integers (L, 2): index of the main and of the auxiliary branch of each link.
        """
        context = {"branches": branches}
        if self.kind == "contextual":
            context["main"] = average_to_cube(main, self.grid)
            context["auxiliary"] = average_to_cube(auxiliary, self.grid)
        return context

    def logits(self, context: dict[str, Tensor]) -> Tensor:
        """Return the logits of the rotations, (L, R)."""
        main_branch, auxiliary_branch = context["branches"].unbind(1)
        logits = self.preferences[main_branch, auxiliary_branch]
        if self.kind == "contextual":
            main = self._project(context["main"], main_branch)
            auxiliary = self._project(context["auxiliary"], auxiliary_branch)
            rotated = rotate_all(auxiliary, self.dimension).flatten(2)
            logits = logits + self.sharpness * torch.einsum("lv,rlv->lr", main.flatten(1), rotated)
        return logits

    def draw(self, context: dict[str, Tensor], count: int, most_probable: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Draw `count` rotations without replacement per link.

        Returns
        -------
        rotations : Tensor
            Indices (L, count); with `most_probable` the most probable ones, so that a prediction is repeatable.
        log_probability : Tensor
            Plackett-Luce log-probability of the ordered draw, (L,).
        probabilities : Tensor
            Softmax of the logits, (L, R).
        """
        with torch.no_grad(), torch.autocast(context["branches"].device.type, enabled=False):
            logits = self.logits(context)
            rotations = plackett_luce.draw(logits, count, most_probable=most_probable)
            return rotations, plackett_luce.log_probability(logits, rotations), logits.softmax(-1)

    def evaluate(self, context: dict[str, Tensor], action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of recorded draws, each (L,), with gradient into the policy."""
        logits = self.logits(context)
        return plackett_luce.log_probability(logits, action), plackett_luce.entropy(logits)

    def _project(self, grid_map: Tensor, branch: Tensor) -> Tensor:
        """Project to the channels of comparison, center, and scale each link's map to norm 1."""
        projected = torch.einsum("lpc,lc...->lp...", self.projections[branch], grid_map)
        spatial = tuple(range(2, projected.ndim))
        centered = projected - projected.mean(spatial, keepdim=True)
        norm = centered.flatten(1).norm(dim=1).clamp_min(1e-6)
        return centered / norm.view(-1, *[1] * (centered.ndim - 1))
