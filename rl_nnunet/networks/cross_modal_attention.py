"""Cross-modal attention (CMA) within windows: RL-U2Net, equations 1-5.

The main branch asks (queries), the auxiliary branch answers (keys and values), window by window. The paper's
"1D convolutions" on the flattened windows are 1x1 projections of the channels. Equation 4 as printed has one head;
we split the channels into heads of a fixed width, as every attention since Vaswani et al. does (``num_heads=1`` is the
printed form).

**Where an answer comes from.** Attention as printed does not know positions: the voxels of an auxiliary window can be
shuffled, and the answer is the same. What the auxiliary branch shows *here* cannot get through, only what it shows
somewhere in the window, 16 x 16 x 16 voxels of the image at a stride of 4. Hence the relative position bias of
Swin transformers (Liu et al., ICCV 2021, eq. 4): a learnt number per head and offset is added to the scores. Ours does
not start at zero but at ``-LOCALITY * squared offset``, so that at first every voxel is answered by its own place and
its neighbors, as a convolution would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOCALITY = 2.0
"""How fast the position bias falls at the start: with 2 and scores of zero, half of the attention of a window in 3D is
on the same place, the rest on its neighbors."""


def pad_to_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """Pad the end of every spatial axis of `x` (B, C, *spatial) with zeros to a multiple of the window."""
    missing = [-size % w for size, w in zip(x.shape[2:], window, strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [pad for m in reversed(missing) for pad in (0, m)])


def partition_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """Cut (B, C, *spatial) into non-overlapping windows: (B * windows, voxels of a window, C); eq. 1-3's ``W``.

    Raises
    ------
    RuntimeError
        If a spatial extent is not a multiple of the window.
    """
    batch, channels, *spatial = x.shape
    split = [extent for size, w in zip(spatial, window, strict=True) for extent in (size // w, w)]
    dimension = len(window)
    order = [0, *range(2, 2 + 2 * dimension, 2), *range(3, 3 + 2 * dimension, 2), 1]
    return x.reshape(batch, channels, *split).permute(order).reshape(-1, math.prod(window), channels)


def merge_windows(tokens: Tensor, window: Sequence[int], spatial: Sequence[int]) -> Tensor:
    """Invert `partition_windows`: back to (B, C, *spatial); eq. 5's inverse of ``W``."""
    counts = [size // w for size, w in zip(spatial, window, strict=True)]
    channels = tokens.shape[-1]
    dimension = len(window)
    x = tokens.reshape(-1, *counts, *window, channels)
    order = [0, 2 * dimension + 1, *(axis for i in range(dimension) for axis in (1 + i, 1 + dimension + i))]
    return x.permute(order).reshape(-1, channels, *spatial)


def relative_offsets(window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return all offsets (offsets, axes) between two voxels of a window, and the index of the one from query to key.

    The index is (queries, keys), in the order of `partition_windows`.
    """
    places = torch.cartesian_prod(*(torch.arange(w) for w in window)).view(-1, len(window))
    offsets = torch.cartesian_prod(*(torch.arange(1 - w, w) for w in window)).view(-1, len(window))
    index = torch.zeros(len(places), len(places), dtype=torch.long)
    for axis, w in enumerate(window):
        along = places[None, :, axis] - places[:, None, axis]
        index = index * (2 * w - 1) + along + w - 1
    return offsets, index


class CrossModalAttention(nn.Module):
    """Windowed attention from a main to an auxiliary feature map.

    Parameters
    ----------
    channels : int
        Channels of both maps.
    window : sequence of int
        Window per spatial axis in voxels. Maps that it does not divide are padded, and the padding is masked.
    head_channels : int
        Channels per attention head; reduced to a divisor of `channels` where it is none.
    position_bias : bool
        Whether the scores have a learnt bias per head and offset; False is the printed form.
    """

    def __init__(
        self, channels: int, window: Sequence[int], head_channels: int = 32, *, position_bias: bool = True
    ) -> None:
        super().__init__()
        self.window = tuple(window)
        self.num_heads = channels // math.gcd(channels, head_channels)
        self.position_bias = None
        if position_bias:
            offsets, index = relative_offsets(self.window)
            self.register_buffer("offset_index", index, persistent=False)
            start = -LOCALITY * offsets.square().sum(1).float()
            self.position_bias = nn.Parameter(start.repeat(self.num_heads, 1))
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, main: Tensor, auxiliary: Tensor) -> Tensor:
        """Return what the auxiliary map answers to the main map.

        Parameters
        ----------
        main, auxiliary : Tensor
            Feature maps (B, C, *spatial) of the same shape.

        Returns
        -------
        Tensor
            The cross-modal map of eq. 5, shape (B, C, *spatial).
        """
        spatial = main.shape[2:]
        padded_main = pad_to_windows(main, self.window)
        query = self._heads(self.query(partition_windows(padded_main, self.window)))
        auxiliary_windows = partition_windows(pad_to_windows(auxiliary, self.window), self.window)
        key, value = (self._heads(t) for t in self.key_value(auxiliary_windows).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self._added_scores(main, query.dtype))
        tokens = self.output(attended.transpose(1, 2).flatten(2))
        merged = merge_windows(tokens, self.window, padded_main.shape[2:])
        return merged[(..., *(slice(size) for size in spatial))]

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _added_scores(self, x: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to the scores: the bias (1, heads, voxels, voxels), and minus infinity for padding."""
        mask = self._mask(x)
        if self.position_bias is None:
            return mask
        bias = self.position_bias.to(dtype)[:, self.offset_index][None]
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)

    def _mask(self, x: Tensor) -> Tensor | None:
        """Return which keys are voxels and not padding, (B * windows, 1, 1, voxels), or None without padding."""
        if all(size % w == 0 for size, w in zip(x.shape[2:], self.window, strict=True)):
            return None
        voxels = pad_to_windows(torch.ones((1, 1, *x.shape[2:]), device=x.device), self.window)
        mask = partition_windows(voxels, self.window)[..., 0].bool()
        return mask.repeat(x.shape[0], 1)[:, None, None, :]
