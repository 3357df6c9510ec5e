"""Losses that pull the aligned map of the auxiliary branch towards the main branch's map: eq. 17 of RL-U2Net.

``L_align = alpha L_InfoNCE + beta L_Cosine``; the weights belong to whoever adds them up. Both are for links of one
direction (one main and one auxiliary branch), between crops of the same anatomy. They are computed in float32, also
under autocast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

_POOLING = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


def info_nce(main: Tensor, aligned: Tensor, temperature: float = 0.1, grid: int = 4) -> Tensor:
    """Return the InfoNCE loss between two feature maps.

    Both maps are average-pooled to at most `grid` positions per axis and normalized to unit length at each. For
    every position of `main` the positive is the same position of the same sample in `aligned`, the negatives are
    all other positions of all samples of the batch:
    ``-log(exp(m_p . a_p / temperature) / sum_q exp(m_p . a_q / temperature))``, averaged over p.

    RL-U2Net names van den Oord et al. 2018 for this loss and does not say what the negatives are. Whole samples
    would leave a single negative at nnU-Net's usual batch size of 2, and none at 1; positions give many, and ask
    for what alignment is about, that the same place looks alike and other places do not. The maps are those of one
    direction: in a softmax over both, the aligned map of the way back, which for aligned branches is the main map
    itself, is a negative that equals the positive, and ln 2 is left.

    Parameters
    ----------
    main, aligned : Tensor
        Shape (B, C, *spatial) with 1 to 3 spatial axes.
    temperature : float
        Divides the cosine similarities; positive. The lower, the more the hardest negatives count.
    grid : int
        Positions per axis after pooling, at least 1; an axis that has fewer is left as it is.

    Returns
    -------
    Tensor
        Scalar, float32, in nats. With N positions (B times at most grid^spatial axes) it is at least
        ``log(1 + (N - 1) exp(-N / ((N - 1) temperature)))``, 0.005 for 128: cosines are bounded, and N directions
        cannot all be opposite. Equal maps reach it where their N vectors form a simplex. It is log N for maps without
        information.

    Raises
    ------
    ValueError
        If the shapes differ, there are not 1 to 3 spatial axes, or `temperature` or `grid` is out of range.
    """
    check_maps(main, aligned)
    if main.dim() - 2 not in _POOLING:
        raise ValueError(f"Expected 1 to 3 spatial axes, got maps of shape {tuple(main.shape)}.")
    if not temperature > 0 or grid < 1:
        raise ValueError(f"temperature must be > 0 and grid >= 1, got {temperature} and {grid}.")
    with torch.autocast(main.device.type, enabled=False):
        similarity = _embed_positions(main, grid) @ _embed_positions(aligned, grid).T
        positives = torch.arange(len(similarity), device=similarity.device)
        return functional.cross_entropy(similarity / temperature, positives)


def cosine_embedding(main: Tensor, aligned: Tensor) -> Tensor:
    """Return the cosine embedding loss for maps that should agree: the mean over positions of 1 - cosine.

    Parameters
    ----------
    main, aligned : Tensor
        Shape (B, C, *spatial).

    Returns
    -------
    Tensor
        Scalar, float32, in [0, 2].

    Raises
    ------
    ValueError
        If the shapes differ or have fewer than three axes.
    """
    return 1 - feature_cosine(main, aligned).mean()


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


def _embed_positions(x: Tensor, grid: int) -> Tensor:
    """Return the unit vectors, (B * positions, C), of a map (B, C, *spatial) pooled to the grid."""
    size = [min(extent, grid) for extent in x.shape[2:]]
    pooled = _POOLING[len(size)](x.float(), size)
    return functional.normalize(pooled.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
