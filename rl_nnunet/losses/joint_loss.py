"""Losses of a batch that is spread over several ranks (`rl_nnunet.distributed`), as one process has them of all of it.

A rank has samples of its own, and of a branch or modality perhaps none. DDP averages the gradients of the ranks:

- A mean over samples is multiplied by the rank's share of them (`rl_nnunet.distributed.shares`).
- nnU-Net's batch Dice is one quotient of sums over all voxels of a batch. Its own loss adds up these sums over the
  ranks, in a tensor with a row per sample, so that every rank must have as many. `fold` makes one row of any number of
  them. A rank without a sample adds nothing, but takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from rl_nnunet.distributed import shares
from rl_nnunet.targets import Target, finest

Logits = Tensor | list[Tensor]


def fold(value: Logits | Target) -> Logits | Target:
    """Return all samples as one, (1, channels, samples * first extent, ...), of (samples, channels, *spatial)."""
    if isinstance(value, list):
        return [fold(scale) for scale in value]
    return value.transpose(0, 1).flatten(1, 2)[None]


def no_samples(example: Logits) -> Logits:
    """Return logits of no sample, with the structure of others; with a gradient, because its backward pass counts."""
    if isinstance(example, list):
        return [no_samples(scale) for scale in example]
    return example.new_zeros((0, *example.shape[1:]), requires_grad=True)


def first_there(logits: Sequence[Logits | None]) -> Logits:
    """Return the first of some logits that are not None: every rank has some."""
    return next(one for one in logits if one is not None)


class JointDice(nn.Module):
    """Batch Dice over the samples of all ranks; all of them must call it.

    Parameters
    ----------
    dice : callable
        Maps (logits, target) to nnU-Net's batch Dice loss, which adds up its sums over the ranks.
    """

    def __init__(self, dice: Callable[..., Tensor]) -> None:
        super().__init__()
        self.dice = dice

    def forward(self, logits: Logits, target: Target) -> Tensor:
        """Return the loss, the same on all ranks."""
        return self.dice(fold(logits), fold(target))


class JointLoss(nn.Module):
    """The sum of Dice and another loss over the samples of all ranks.

    In training, the mean of its gradients over the ranks is that of one process with the samples of all of them; all
    ranks must call it. In evaluation (``eval()``), each rank is judged by itself.

    Parameters
    ----------
    alone : callable
        Maps (logits, target) to the whole loss of this rank.
    mean : callable
        What is a mean over samples: the cross entropy.
    dice : callable, optional
        The Dice loss: a `JointDice`, or a mean over samples.
    """

    def __init__(
        self, alone: Callable[..., Tensor], mean: Callable[..., Tensor], dice: Callable[..., Tensor] | None = None
    ) -> None:
        super().__init__()
        self.alone = alone
        self.mean = mean
        self.dice = dice

    def forward(self, logits: Logits, target: Target, share: float | None = None) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        logits, target
            Of any number of samples, see `no_samples` for none.
        share : float, optional
            Of the samples, by `rl_nnunet.distributed.shares`; found out if not given.
        """
        if not self.training:
            return self.alone(logits, target)
        samples = len(finest(logits))
        share = shares([samples])[0] if share is None else share
        total = finest(logits)[:0].sum()
        if self.dice is not None and (samples or isinstance(self.dice, JointDice)):
            total = total + self.dice(logits, target) * (1.0 if isinstance(self.dice, JointDice) else share)
        return total + share * self.mean(logits, target) if samples else total
