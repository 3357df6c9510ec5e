"""Drawing k of R alternatives without replacement: the Plackett-Luce distribution.

PoseAlign of RL-U2Net draws K_sel of the rotations of eq. 6 "according to the learning weights of each
direction". Drawing one after the other, each time from the softmax over what remains, has an exact
log-probability,

    log p(i_1, ..., i_k) = sum_j [ logits[i_j] - logsumexp(logits of all but i_1, ..., i_{j-1}) ],

which is what the ratio of PPO (eq. 11) needs. Adding Gumbel noise to the logits and keeping the k largest
draws from this distribution (Kool et al. 2019, "Stochastic Beams and Where to Find Them").

Logits are finite, in nats, and need not be normalized; computation is in at least float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def draw(logits: Tensor, k: int, most_probable: bool = False, generator: Generator | None = None) -> Tensor:
    """Draw k of R alternatives without replacement, in order.

    Parameters
    ----------
    logits : Tensor
        Shape (..., R).
    k : int
        How many are drawn, 1 to R.
    most_probable : bool
        Return the most probable ordered draw instead of a random one: the k largest logits in descending
        order. Deterministic; among equal logits the lower index comes first.
    generator : torch.Generator, optional
        Source of randomness, on the device of `logits`; the global one by default.

    Returns
    -------
    Tensor
        Indices, int64 of shape (..., k); distinct along the last axis. No gradient passes through them.

    Raises
    ------
    ValueError
        If `logits` has no last axis to draw from, or k is not between 1 and R.
    """
    _check_count(logits, k)
    scores = _at_least_float32(logits.detach())
    if not most_probable:
        # The negative logarithm of an exponential variate is a Gumbel variate.
        scores = scores - torch.empty_like(scores).exponential_(generator=generator).log()
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]


def log_probability(logits: Tensor, indices: Tensor) -> Tensor:
    """Return the exact log-probability of an ordered draw without replacement.

    Differentiable with respect to the logits, and stable for logits of any finite size.

    Parameters
    ----------
    logits : Tensor
        Shape (..., R).
    indices : Tensor
        The draw, integers in [0, R) of shape (..., k) with k <= R. The leading axes of both are broadcast
        against each other, so that one vector of logits (R,) serves a batch of draws (N, k), and the reverse.

    Returns
    -------
    Tensor
        In nats, <= 0, of the broadcast leading shape. A draw that repeats an index is impossible (``-inf``).

    Raises
    ------
    ValueError
        If `indices` are not integers, k is not between 1 and R, or the leading shapes do not broadcast.
    """
    if indices.is_floating_point() or indices.dim() == 0:
        raise ValueError(f"Expected integer indices (..., k), got {indices.dtype} of shape {tuple(indices.shape)}.")
    _check_count(logits, indices.shape[-1])
    try:
        leading = torch.broadcast_shapes(logits.shape[:-1], indices.shape[:-1])
    except RuntimeError as error:
        raise ValueError(
            f"The leading axes of {tuple(logits.shape)} and {tuple(indices.shape)} do not broadcast."
        ) from error
    logits = _at_least_float32(logits).expand(*leading, -1)
    indices = indices.long().expand(*leading, -1)

    # Not one_hot, which looks at its argument and so waits for the device.
    drawn = (indices.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)).long()  # (..., k, R)
    drawn_before = (drawn.cumsum(dim=-2) - drawn).bool()
    remaining = logits.unsqueeze(-2).masked_fill(drawn_before, -torch.inf)
    chosen = remaining.gather(-1, indices.unsqueeze(-1)).squeeze(-1)
    return (chosen - remaining.logsumexp(dim=-1)).sum(dim=-1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the first draw, in nats.

    This is the exact entropy of the draw for k = 1. For k > 1 the entropy of the ordered draw is a sum over
    R! / (R - k)! outcomes; the first draw's is a lower bound of it with the same maximizer, uniform logits.
    It is used as the exploration bonus of PPO and to watch how decided a policy is.

    Parameters
    ----------
    logits : Tensor
        Shape (..., R).

    Returns
    -------
    Tensor
        Shape (...), in [0, log R]; differentiable.

    Raises
    ------
    ValueError
        If `logits` has no last axis to draw from.
    """
    _check_count(logits, 1)
    log_softmax = _at_least_float32(logits).log_softmax(dim=-1)
    return -(log_softmax.exp() * log_softmax).sum(dim=-1)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check_count(logits: Tensor, k: int) -> None:
    if logits.dim() == 0:
        raise ValueError("Expected logits of shape (..., R), got a scalar.")
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"Cannot draw {k} of {logits.shape[-1]} alternatives without replacement.")
