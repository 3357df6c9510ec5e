"""The pose policy of RL-XAlign: which cube rotation turns the auxiliary map into the pose of the main map.

RL-U2Net's actor is one learnt preference per rotation, theta in R^24, for all inputs (`kind="global"`): it cannot
follow a misalignment that differs from case to case. Ours is *contextual* by default: the logits are
``theta_r + beta * S(F_main, R_r F_auxiliary)``, with S the cosine similarity of the projected and centered maps after
each rotation. Projections (one per branch and module) and beta are the agent's parameters, trained by PPO only.

Two crops of the same organ never show it in the same place, and a rotation cannot shift: at one and the same place, S
would say which rotation happens to cover the offset. Hence S is that of the best of all shifts up to `max_shift`
voxels, the maximum of the cross-correlation. It needs no labels, so that training and prediction see the same; the
reward centers the label maps instead (`rl_nnunet.agents.rewards`). The best shifts are found when the policy acts, and
belong to what it has seen: PPO's passes over a transition compare at them, and cost no search.

A stage may leave rotations out, those that put an axis of thick slices into the plane. They are no alternatives of the
distribution at all: their probability is 0, and neither its logarithm nor the entropy knows them.

Both maps are averaged to a cubic grid first, where every rotation is exact; a projection is linear, so it commutes
with the average, and the averaged maps are all that a transition has to remember.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rl_nnunet.policies import plackett_luce
from rl_nnunet.policies.rotations import rotate_all, rotation_matrices

PolicyKind = Literal["contextual", "global"]


def average_to_cube(x: Tensor, grid: int) -> Tensor:
    """Average (B, C, *spatial) to a cubic grid (B, C, grid, ...), float32; coarser axes are repeated, none is cropped.

    Under mixed precision, the average is made of the map as it is: only the small cube is converted.
    """
    pool = F.adaptive_avg_pool3d if x.ndim == 5 else F.adaptive_avg_pool2d
    return pool(x, (grid,) * (x.ndim - 2)).float()


def shift_windows(grid: int, max_shift: int, dimension: int) -> Tensor:
    """Return where the voxels of a cube come from at all shifts: indices (shifts, voxels) into the padded, flat cube.

    The cube is padded by `max_shift` voxels on every side, and shifted by at most as many along every axis.
    """
    edge = grid + 2 * max_shift
    windows = torch.arange(edge**dimension).view((edge,) * dimension)
    for axis in range(dimension):
        windows = windows.unfold(axis, grid, 1)
    return windows.reshape(-1, grid**dimension)


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
    max_shift : int
        By how many voxels of this cube, along every axis, one map may be shifted against the other. The default is a
        third of the default grid, which more does not improve on real hearts.
    rotations : sequence of int, optional
        Indices of the rotations that there are to choose from, in ascending order; all by default.
    """

    def __init__(
        self,
        channels: int,
        dimension: int,
        num_branches: int,
        kind: PolicyKind = "contextual",
        projection_channels: int = 16,
        grid: int = 6,
        max_shift: int = 2,
        rotations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("contextual", "global"):
            raise ValueError(f'the policy must be "contextual" or "global", not {kind!r}')
        self.dimension = dimension
        self.kind = kind
        self.grid = grid
        self.max_shift = max_shift
        self.num_rotations = len(rotation_matrices(dimension))
        self.rotations = tuple(range(self.num_rotations) if rotations is None else rotations)
        positions = [self.rotations.index(r) if r in self.rotations else -1 for r in range(self.num_rotations)]
        self.register_buffer("rotation_at", torch.tensor(self.rotations), persistent=False)
        self.register_buffer("position_of", torch.tensor(positions), persistent=False)
        self.register_buffer("windows", shift_windows(grid, max_shift, dimension), persistent=False)
        self.preferences = nn.Parameter(torch.zeros(num_branches, num_branches, self.num_rotations))
        if kind == "contextual":
            # All branches start from the same projection: the encoder is shared, so equal anatomy starts out similar.
            projection = torch.randn(projection_channels, channels) / math.sqrt(channels)
            self.projections = nn.Parameter(projection.repeat(num_branches, 1, 1))
            self.sharpness = nn.Parameter(torch.tensor(5.0))

    @torch.no_grad()
    def context(self, main: Tensor, auxiliary: Tensor, branches: Tensor) -> dict[str, Tensor]:
        """Return what the policy looks at, detached from the network.

        The maps are in half precision from here on, when the policy draws and when it learns alike: they are most of
        what an agent keeps until its update, in memory and in every checkpoint.

        Parameters
        ----------
        main, auxiliary : Tensor
            Feature maps (L, C, *spatial) of the links.
        branches : Tensor
            Integers (L, 2): index of the main and of the auxiliary branch of each link.
        """
        context = {"branches": branches}
        if self.kind == "contextual":
            context["main"] = average_to_cube(main, self.grid).half()
            context["auxiliary"] = average_to_cube(auxiliary, self.grid).half()
            with torch.autocast(main.device.type, enabled=False):
                padded, rotated = self._compared(context)
                correlation = torch.einsum("rlpv,lpsv->lrs", rotated, padded[:, :, self.windows])
            context["shifts"] = correlation.argmax(2)
        return context

    def logits(self, context: dict[str, Tensor]) -> Tensor:
        """Return the logits of the rotations that there are to choose from, (L, len(rotations))."""
        main_branch, auxiliary_branch = context["branches"].unbind(1)
        # index_select, whose gradient is summed in one order: that of indexing depends on the threads of a CPU.
        direction = main_branch * len(self.preferences) + auxiliary_branch
        logits = self.preferences.flatten(0, 1).index_select(0, direction).index_select(1, self.rotation_at)
        if self.kind == "contextual":
            padded, rotated = self._compared(context)
            sources = self.windows[context["shifts"]].flatten(1)
            shifted = padded.gather(2, sources.unsqueeze(1).expand(-1, padded.shape[1], -1))
            shifted = shifted.unflatten(2, (len(self.rotations), -1))
            logits = logits + self.sharpness * torch.einsum("rlpv,lprv->lr", rotated, shifted)
        return logits

    def draw(self, context: dict[str, Tensor], count: int, most_probable: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Draw `count` rotations without replacement per link.

        Returns
        -------
        rotations : Tensor
            Indices (L, count) in `rotation_matrices`; with `most_probable` the most probable ones, so that a
            prediction is repeatable.
        log_probability : Tensor
            Plackett-Luce log-probability of the ordered draw, (L,).
        probabilities : Tensor
            Softmax of the logits, (L, R) over the whole group; 0 of the rotations that are left out.
        """
        with torch.no_grad(), torch.autocast(context["branches"].device.type, enabled=False):
            logits = self.logits(context)
            positions = plackett_luce.draw(logits, count, most_probable=most_probable)
            probabilities = logits.new_zeros(len(logits), self.num_rotations)
            probabilities = probabilities.index_copy(1, self.rotation_at, logits.softmax(-1))
            return self.rotation_at[positions], plackett_luce.log_probability(logits, positions), probabilities

    def evaluate(self, context: dict[str, Tensor], action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of recorded draws, each (L,), with gradient into the policy."""
        logits = self.logits(context)
        return plackett_luce.log_probability(logits, self.position_of[action]), plackett_luce.entropy(logits)

    def _compared(self, context: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the projected main maps, padded and flat (L, P, .), and the auxiliary ones after each rotation."""
        main_branch, auxiliary_branch = context["branches"].unbind(1)
        main = F.pad(self._project(context["main"], main_branch), [self.max_shift] * 2 * self.dimension)
        auxiliary = self._project(context["auxiliary"], auxiliary_branch)
        return main.flatten(2), rotate_all(auxiliary, self.dimension, self.rotations).flatten(3)

    def _project(self, grid_map: Tensor, branch: Tensor) -> Tensor:
        """Project to the channels of comparison, center, and scale each link's map to norm 1."""
        projected = torch.einsum("lpc,lc...->lp...", self.projections.index_select(0, branch), grid_map.float())
        spatial = tuple(range(2, projected.ndim))
        centered = projected - projected.mean(spatial, keepdim=True)
        norm = centered.flatten(1).norm(dim=1).clamp_min(1e-6)
        return centered / norm.view(-1, *[1] * (centered.ndim - 1))
