"""The similarity S between a branch's map and the aligned map of another: eq. 8 and 9 of RL-U2Net.

The paper calls it the cross-modal feature similarity (`feature_cosine`). Where both label maps exist, as in
training, their overlap after the rotation says the same of the anatomy, without the modalities' noise
(`label_overlap`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def label_overlap(main_labels: Tensor, auxiliary_labels: Tensor) -> Tensor:
    """Return the soft Dice coefficient of two label maps, averaged over the classes that occur.

    Parameters
    ----------
    main_labels, auxiliary_labels : Tensor
        Shape (L, K, *spatial), one channel per foreground class with values in [0, 1]: one-hot, or soft after
        resampling.

    Returns
    -------
    Tensor
        Shape (L,), float32, in [0, 1]: the mean of ``2 sum(a b) / (sum(a) + sum(b))`` over those of the K classes
        that occur in either map of the pair; 0 where none does, since nothing is then known to overlap.

    Raises
    ------
    ValueError
        If the shapes differ or have fewer than three axes.
    """
    check_maps(main_labels, auxiliary_labels)
    main, auxiliary = main_labels.float().flatten(2), auxiliary_labels.float().flatten(2)
    size = main.sum(dim=2) + auxiliary.sum(dim=2)
    occurs = size > 0
    dice = 2 * (main * auxiliary).sum(dim=2) / size.where(occurs, 1)
    return dice.sum(dim=1) / occurs.sum(dim=1).clamp(min=1)


def feature_cosine(main: Tensor, auxiliary: Tensor) -> Tensor:
    """Return the cosine similarity of two feature maps, averaged over positions.

    Parameters
    ----------
    main, auxiliary : Tensor
        Shape (L, C, *spatial).

    Returns
    -------
    Tensor
        Shape (L,), float32, in [-1, 1]; a position where either map is zero in all channels counts as 0.
        Differentiable.

    Raises
    ------
    ValueError
        If the shapes differ or have fewer than three axes.
    """
    check_maps(main, auxiliary)
    cosine = functional.cosine_similarity(main.float(), auxiliary.float(), dim=1)
    return cosine.flatten(1).mean(dim=1)


def check_maps(main: Tensor, auxiliary: Tensor) -> None:
    """Raise ValueError unless both are maps (N, C, *spatial) of one shape."""
    if main.shape != auxiliary.shape or main.dim() < 3:
        raise ValueError(
            f"Expected two maps of one shape (N, C, *spatial), got {tuple(main.shape)} and {tuple(auxiliary.shape)}."
        )
