"""nnU-Net's loss taken apart: Dice alone, cross entropy alone, and both for a batch that is spread over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn

from rl_nnunet.losses.joint_loss import JointDice, JointLoss

Loss = Callable[..., Tensor]


class _Nothing(nn.Module):
    """A term that is 0 whatever it is given: the mean over no voxels would be NaN, and NaN times a weight of 0, too."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.new_zeros(())


def terms_of(loss: Any) -> Any:
    """Return nnU-Net's compound loss, which judges one scale, without the deep supervision around it."""
    return loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss


def without_term(loss: Any, weight: str) -> Any:
    """Return nnU-Net's loss with the weight of one of its terms set to 0.

    Raises
    ------
    AttributeError
        If nnU-Net's loss has no such weight any more: a new attribute of the old name would change nothing.
    """
    terms = terms_of(loss)
    if not hasattr(terms, weight):
        raise AttributeError(f"nnU-Net's {type(terms).__name__} has no {weight}: see tests/test_nnunet_hooks.py")
    setattr(terms, weight, 0)
    return loss


def of_one_rank(loss: Any) -> Any:
    """Return nnU-Net's loss without the sums over ranks in its batch Dice; with one process, it has none."""
    dice = terms_of(loss).dc
    getattr(dice, "_orig_mod", dice).ddp = False  # torch.compile may be around it
    return loss


def joint_dice(loss: Any) -> JointDice:
    """Return the batch Dice over the samples of all ranks, given nnU-Net's loss."""
    terms = terms_of(without_term(loss, "weight_ce"))
    terms.ce = _Nothing()
    terms.dc = getattr(terms.dc, "_orig_mod", terms.dc)  # not compiled: the numbers of samples vary, and may be 0
    return JointDice(loss)


def joint_loss(build: Callable[[], Any], batch_dice: bool, part: Callable[[Any], Any] = lambda loss: loss) -> JointLoss:
    """Return nnU-Net's loss for a batch that is spread over several ranks.

    Parameters
    ----------
    build : callable
        Builds nnU-Net's loss.
    batch_dice : bool
        Of the configuration.
    part : callable
        Returns what is used of nnU-Net's loss.
    """
    dice = joint_dice(part(build())) if batch_dice else without_term(of_one_rank(part(build())), "weight_ce")
    return JointLoss(of_one_rank(part(build())), without_term(of_one_rank(part(build())), "weight_dice"), dice)
