"""Erase parts of images without making a channel look absent.

What is erased gets the channel's blank value, that of an absent scan (see `rl_nnunet.branches.blank_values`): 0 after a
z-score, the normalized 0 HU of a CT. No other value tells a network as plainly that nothing is shown there.

A channel of which all is erased would look like one that the case does not have, and a network that leaves absent
branches out would leave it out: its loss would then be that of another input. So a channel that shows something keeps
at least one voxel, the one that deviates most from the blank value. It says next to nothing of the image, and the
channel counts as present by the rules of `rl_nnunet.presence.patches`. A channel that is blank already stays so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rl_nnunet.presence.patches import blank_channels, constant_channels


def erase(x: Tensor, erased: Tensor, groups: Sequence[Sequence[int]], blank_values: Tensor) -> Tensor:
    """Return images with some voxels at the blank values of their channels.

    Parameters
    ----------
    x : Tensor
        (B, channels, *spatial).
    erased : Tensor
        Which voxels of each group of channels to erase, booleans (B, groups, *spatial).
    groups : sequence of sequence of int
        Channels of every group; those of no group stay as they are.
    blank_values : Tensor
        Value of each channel where it is absent, (channels,), on the device of `x`.

    Returns
    -------
    Tensor
        (B, channels, *spatial); each channel is present that is present in `x`.
    """
    of_channel = torch.zeros_like(x, dtype=torch.bool)
    for group, channels in enumerate(groups):
        of_channel[:, list(channels)] = erased[:, group, None]
    values = blank_values.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
    result = torch.where(of_channel, values, x)
    became_blank = blank_channels(result, blank_values) & ~blank_channels(x, blank_values)
    became_constant = constant_channels(result) & ~constant_channels(x)
    lost = (became_blank | became_constant).nonzero()
    if len(lost):
        _keep_most_deviating(x, result, lost, blank_values)
    return result


def _keep_most_deviating(x: Tensor, result: Tensor, lost: Tensor, blank_values: Tensor) -> None:
    """Blank the channels `lost` (pairs of sample and channel) of `result`, but for the voxel that deviates most."""
    samples, channels = lost.unbind(1)
    values = blank_values.to(x.dtype)[channels]
    flat = x[samples, channels].flatten(1)
    # Zero counts as blank, too: it is what a patch is padded with.
    deviation = torch.minimum((flat - values[:, None]).abs(), flat.abs())
    voxel = deviation.argmax(1, keepdim=True)
    blank = values[:, None].expand_as(flat).clone()
    result[samples, channels] = blank.scatter(1, voxel, flat.gather(1, voxel)).view(-1, *x.shape[2:])
