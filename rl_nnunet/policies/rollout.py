"""One episode of the weight agents: what they saw of each iteration, and what they proposed for the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_nnunet.outputs import Episode
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy, weights_of


class Rollout:
    """Lets policies act on one observation after the other.

    Parameters
    ----------
    policies : mapping of str to RecurrentGaussianPolicy
        By agent.
    effective : mapping of str to Tensor
        Per agent, which entries of its actions have an effect, booleans (B, A).
    draw : bool
        Draw actions; the mean ones are taken otherwise.
    differentiable : bool
        Let gradients pass from the weights into the policies.
    """

    def __init__(
        self,
        policies: Mapping[str, RecurrentGaussianPolicy],
        effective: Mapping[str, Tensor],
        draw: bool,
        differentiable: bool = False,
    ) -> None:
        self.policies = policies
        self.effective = effective
        self.draw = draw
        self.differentiable = differentiable
        self._seen: dict[str, list[Tensor]] = {name: [] for name in policies}
        self._acts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in policies}

    def act(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights (B, A) that each agent proposes, given what it sees now, (B, S)."""
        weights = {}
        for name, policy in self.policies.items():
            self._seen[name].append(observed[name])
            seen = torch.stack(self._seen[name], 1)
            with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
                action, log_probability = policy.act(seen, self.effective[name], most_probable=not self.draw)
            self._acts[name].append((action, log_probability))
            weights[name] = weights_of(action)
        return weights

    def episodes(self) -> dict[str, Episode]:
        """Return what each agent saw and did."""
        return {
            name: Episode(
                torch.stack(self._seen[name], 1),
                self.effective[name],
                *(torch.stack(part, 1) for part in zip(*acts, strict=True)),
            )
            for name, acts in self._acts.items()
        }
