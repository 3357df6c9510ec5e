"""The buffer of an agent: transitions as they come, and as one batch once there are enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Transitions:
    """Stores transitions (s_t, a_t, r_t, s_t+1) with what the policy saw and how probable its action was."""

    def __init__(self) -> None:
        self._chunks: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """Return how many transitions are stored."""
        return sum(len(chunk["reward"]) for chunk in self._chunks)

    def record(
        self,
        state: Tensor,
        context: dict[str, Tensor],
        action: Tensor,
        log_probability: Tensor,
        reward: Tensor,
        next_state: Tensor,
        terminal: Tensor | None = None,
        baseline: Tensor | None = None,
    ) -> None:
        """Store n transitions as detached, contiguous copies on their device.

        What of the context comes in half precision stays in it; all other floating point numbers are float32.

        Parameters
        ----------
        state, next_state : Tensor
            s_t and s_t+1, shape (n, S).
        context : dict of str to Tensor
            What the policy's ``evaluate`` needs besides the action, each of shape (n, ...); may be empty. The keys
            are the same in every call.
        action : Tensor
            Shape (n, ...).
        log_probability : Tensor
            Of the action under the policy that drew it, in nats, shape (n,).
        reward : Tensor
            Shape (n,).
        terminal : Tensor, optional
            Booleans, shape (n,): the episode ended with this action, and nothing that follows `next_state` counts.
            None where it goes on.
        baseline : Tensor, optional
            Shape (n,): what was to be expected of the policy, whatever it did. Where given, ``reward - baseline`` is
            the advantage, and the critic is not asked. Given in every call, or in none.

        Raises
        ------
        ValueError
            If a shape is not as stated, or some transitions have a baseline and others have none.
        """
        n = len(reward) if reward.dim() == 1 else -1
        terminal = torch.zeros_like(reward, dtype=torch.bool) if terminal is None else terminal
        optional = {} if baseline is None else {"baseline": baseline}
        others = {**context, "action": action, "terminal": terminal, **optional}
        shapes = {name: tuple(x.shape) for name, x in others.items()}
        valid = reward.shape == log_probability.shape == (n,) and state.dim() == 2
        valid = valid and state.shape == next_state.shape and len(state) == n
        if not valid or any(shape[:1] != (n,) for shape in shapes.values()):
            raise ValueError(
                f"Transitions of unequal number or bad shape: state {tuple(state.shape)}, next_state "
                f"{tuple(next_state.shape)}, log_probability {tuple(log_probability.shape)}, "
                f"reward {tuple(reward.shape)}, {shapes}."
            )
        if self._chunks and ("baseline" in self._chunks[0]) != bool(optional):
            raise ValueError("Either all transitions have a baseline, or none.")
        self._chunks.append(
            {
                "state": _stored(state),
                "context": {name: _stored(x, keeps_half=True) for name, x in context.items()},
                "action": _stored(action),
                "log_probability": _stored(log_probability),
                "reward": _stored(reward),
                "next_state": _stored(next_state),
                "terminal": _stored(terminal),
                **{name: _stored(x) for name, x in optional.items()},
            }
        )

    def take_all(self) -> dict[str, Any]:
        """Return all transitions as one batch, in float32 where floating point, and forget them."""
        batch = _map(lambda x: x.float() if x.is_floating_point() else x, _concatenate(self._chunks))
        self._chunks.clear()
        return batch

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what is stored, as it came."""
        return list(self._chunks)

    def load_state_dict(self, state: list[dict[str, Any]], device: torch.device) -> None:
        """Restore what `state_dict` returned, on a device."""
        self._chunks = [_map(lambda x: x.to(device), chunk) for chunk in state]


def _stored(x: Tensor, *, keeps_half: bool = False) -> Tensor:
    """Return a detached, contiguous copy, in float32 where it is floating point, or half precision if that may stay."""
    stays = not x.is_floating_point() or (keeps_half and x.dtype == torch.float16)
    dtype = x.dtype if stays else torch.float32
    return x.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _concatenate(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Join recorded transitions along their first axis."""
    return {
        name: _concatenate([chunk[name] for chunk in chunks])
        if isinstance(first, dict)
        else torch.cat([chunk[name] for chunk in chunks])
        for name, first in chunks[0].items()
    }


def _map(function: Callable[[Tensor], Tensor], transitions: dict[str, Any]) -> dict[str, Any]:
    """Apply a function to every tensor of the transitions."""
    return {name: _map(function, x) if isinstance(x, dict) else function(x) for name, x in transitions.items()}


def select(transitions: dict[str, Any], indices: Tensor) -> dict[str, Any]:
    """Return the transitions of the given indices."""
    return _map(lambda x: x[indices], transitions)
