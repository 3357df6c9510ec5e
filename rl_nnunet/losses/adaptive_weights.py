"""The Adaptive Gradient Weight Distributor (AGWD): weights of the branches' losses, eq. 18-19 of RL-U2Net.

The branch that learns more slowly (the larger loss) gets more weight, the faster one less, by the hyperbolic tangent
of the gap. The paper applies it to the Dice loss and to the cross entropy separately: use one `AdaptiveWeights` each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_nnunet.distributed import sum_over_ranks


@dataclass(frozen=True)
class AdaptiveWeightsConfig:
    """Hyperparameters of AGWD; the paper gives no values.

    Parameters
    ----------
    temperature : float
        gamma of eq. 18, how strongly the weights answer to the gap between the losses, per unit of loss; not
        negative. 0 leaves all weights at 1.
    offset : float
        delta of eq. 18, in units of loss; not negative. See `adaptive_weights` for why it is 0 by default.
    momentum : float
        Of the exponential moving average of each branch's loss, in [0, 1); 0 uses the last value alone. The loss of
        one batch of two patches says more of the patches than of the branch, and weights that follow it jump
        from step to step; 0.9 averages over about ten steps.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    temperature: float = 1.0
    offset: float = 0.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Check the ranges."""
        in_range = {
            "temperature": self.temperature >= 0,
            "offset": self.offset >= 0,
            "momentum": 0 <= self.momentum < 1,
        }
        for name, valid in in_range.items():
            if not valid:
                raise ValueError(f"AdaptiveWeightsConfig: {name} is out of range: {getattr(self, name)}.")


def adaptive_weights(losses: Tensor, temperature: float, offset: float) -> Tensor:
    """Return the weight of each branch's loss.

    For two branches this is eq. 18-19: the slow one gets ``1 + w``, the fast one ``1 - w``, with
    ``w = tanh(temperature (L_slow - L_fast - offset))``. For more, each branch is compared with the mean of the
    others: ``d_b = L_b - mean of the other L``, ``w_b = sign(d_b) tanh(temperature (|d_b| - offset))``, and the
    weights ``1 + w_b`` are rescaled so that they sum to the number of branches (which those of two do already).
    Branches of equal loss get equal weights.

    With an offset above 0, eq. 18 is negative while the gap is below the offset, so it favors the *fast* branch
    there, and the weights jump when the two branches swap places. The default offset of `AdaptiveWeightsConfig`
    is therefore 0, where the weights are continuous and the slow branch is always the favored one. That is our
    choice: the paper gives no value.

    Parameters
    ----------
    losses : Tensor
        Shape (n_branches,), of any sign; only differences matter.
    temperature, offset : float
        gamma and delta of eq. 18.

    Returns
    -------
    Tensor
        Shape (n_branches,), of the dtype of `losses`, each in [0, n_branches], detached.

    Raises
    ------
    ValueError
        If `losses` is not one-dimensional or empty.
    """
    if losses.dim() != 1 or len(losses) == 0:
        raise ValueError(f"Expected losses of shape (n_branches,), got {tuple(losses.shape)}.")
    losses = losses.detach()
    n = len(losses)
    if n == 1:
        return torch.ones_like(losses)
    gap = losses - (losses.sum() - losses) / (n - 1)
    weights = 1 + gap.sign() * torch.tanh(temperature * (gap.abs() - offset))
    total = weights.sum()
    # With an offset, three or more branches can all saturate at weight 0: then there is no preference.
    return torch.where(total > 0, weights * n / total, torch.ones_like(weights))


class AdaptiveWeights:
    """Keeps a moving average of each branch's loss and turns the averages into weights.

    Parameters
    ----------
    n_branches : int
        Number of branches, at least 1.
    config : AdaptiveWeightsConfig, optional
        Hyperparameters.

    Raises
    ------
    ValueError
        If there is no branch.
    """

    def __init__(self, n_branches: int, config: AdaptiveWeightsConfig | None = None) -> None:
        if n_branches < 1:
            raise ValueError(f"AGWD needs at least one branch, not {n_branches}.")
        self.config = config or AdaptiveWeightsConfig()
        self._averages = torch.zeros(n_branches, dtype=torch.float64)
        self._seen = torch.zeros(n_branches, dtype=torch.bool)

    def update(self, losses: dict[int, float | Tensor]) -> Tensor:
        """Account for one step's losses and return the weights for that step.

        A branch that is absent keeps its average; a loss that is not finite (an overflow under mixed precision)
        counts as absent. A branch that was never seen has weight 1 and does not count in the others' means. Where
        torch.distributed is initialized, the losses are averaged over the ranks that have the branch, so all
        ranks get the same weights; every rank must then call this, if need be with an empty dictionary.

        Parameters
        ----------
        losses : dict of int to float or Tensor
            The losses of the branches present, scalars, by the index of the branch.

        Returns
        -------
        Tensor
            Shape (n_branches,), float32 on the CPU (``weights[b] * loss`` works for a scalar loss on any device),
            each in [0, n_branches]; detached.

        Raises
        ------
        ValueError
            If an index is no branch's.
        """
        means, present = self._average_over_ranks(losses)
        momentum = torch.where(self._seen, self.config.momentum, 0.0)
        moved = momentum * self._averages + (1 - momentum) * means
        self._averages = torch.where(present, moved, self._averages)
        self._seen = self._seen | present

        weights = torch.ones_like(self._averages)
        if self._seen.any():
            weights[self._seen] = adaptive_weights(
                self._averages[self._seen], self.config.temperature, self.config.offset
            )
        return weights.float()

    def _average_over_ranks(self, losses: dict[int, float | Tensor]) -> tuple[Tensor, Tensor]:
        """Return each branch's mean loss over the ranks that have it, and which branches any rank has."""
        sums, counts = [0.0] * len(self._averages), [0.0] * len(self._averages)
        for branch, loss in losses.items():
            if not 0 <= branch < len(self._averages):
                raise ValueError(f"There is no branch {branch} among {len(self._averages)}.")
            value = loss.item() if isinstance(loss, Tensor) else loss
            if math.isfinite(value):
                sums[branch], counts[branch] = value, 1.0
        totals = torch.tensor(sum_over_ranks([*sums, *counts]), dtype=torch.float64)
        all_sums, all_counts = totals.chunk(2)
        return all_sums / all_counts.clamp(min=1), all_counts > 0

    def state_dict(self) -> dict[str, Any]:
        """Return the moving averages, and which branches they have seen."""
        return {"averages": self._averages, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises
        ------
        ValueError
            If it is of another number of branches.
        """
        if state["averages"].shape != self._averages.shape:
            raise ValueError(f"The averages are of {len(state['averages'])} branches, not of {len(self._averages)}.")
        self._averages = state["averages"].cpu()
        self._seen = state["seen"].cpu()
