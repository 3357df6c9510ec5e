"""Which branches (or modalities) the samples of a batch of patches have.

A channel is *blank* where it has its blank value (see `rl_nnunet.branches.blank_values`) or, where a patch
was padded, zero. So the absent channels of a data set look. No patch of a scan looks so: z-scored air is not zero, and
our planners keep the air of a CT apart from its blank value. Where a channel is blank in a patch, the *case* has no
such scan, although the patch is all that a network sees.

A channel that is constant and not blank shows nothing: air, or what lies outside the field of view of its scan.
Whoever predicts may have filled an absent channel with something else: with -1024 HU, the air of a CT. After the
normalization such a channel is constant, but not at its blank value, and a network that takes it for a scan is misled.
It need not be told from a real scan: a constant channel has no information, and where a channel of another group
varies, that group decides better alone. Hence

- a constant channel beside a group that varies is absent: whatever sees nothing has no vote;
- where no other group varies, it is present: patches of nothing but air are what training has seen with a scan of one
  branch only;
- while branches train that are judged one by one, only what is blank is absent: a branch has to learn what air is, and
  in unpaired data the branch beside it is another patient's.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from rl_nnunet.presence.cases import CONSTANT_TOLERANCE


def blank_voxels(x: Tensor, blank_values: Tensor) -> Tensor:
    """Return which voxels of (B, channels, *spatial) are blank, booleans of the same shape."""
    detached = x.detach()
    blank = blank_values.view(1, -1, *[1] * (x.ndim - 2))
    return ((detached - blank).abs() < CONSTANT_TOLERANCE) | (detached.abs() < CONSTANT_TOLERANCE)


def blank_channels(x: Tensor, blank_values: Tensor) -> Tensor:
    """Return which channels of (B, channels, *spatial) are blank, booleans (B, channels)."""
    return blank_voxels(x, blank_values).flatten(2).all(-1)


def constant_channels(x: Tensor) -> Tensor:
    """Return which channels of (B, channels, *spatial) are constant but for the padding, booleans (B, channels).

    Padding is zero in all channels.
    """
    flat = x.detach().flatten(2)
    padding = (flat == 0).all(1, keepdim=True)
    # Masked in any case: to ask whether there is padding, the host would wait for the device.
    lowest, highest = flat.masked_fill(padding, torch.inf).amin(-1), flat.masked_fill(padding, -torch.inf).amax(-1)
    return highest - lowest < CONSTANT_TOLERANCE


def constant_beside_others(x: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return which channels are constant while a channel of another group varies, booleans (B, channels)."""
    varies = ~constant_channels(x)
    group_varies = torch.stack([varies[:, list(channels)].any(1) for channels in groups], dim=1)
    result = ~varies
    for group, channels in enumerate(groups):
        others_vary = group_varies[:, [other for other in range(len(groups)) if other != group]].any(1)
        result[:, list(channels)] &= others_vary[:, None]
    return result


def absent_channels(x: Tensor, groups: Sequence[Sequence[int]], blank_values: Tensor) -> Tensor:
    """Return which channels are absent by the rule of the evaluation, booleans (B, channels).

    Parameters
    ----------
    x : Tensor
        (B, channels, *spatial).
    groups : sequence of sequence of int
        Channels of every branch or modality.
    blank_values : Tensor
        Value of each channel where it is absent, (channels,).
    """
    return blank_channels(x, blank_values) | constant_beside_others(x, groups)


def present_groups(absent: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return which groups of channels each sample has, given its absent channels.

    Returns
    -------
    Tensor
        Booleans (B, groups). A sample without any (a patch of nothing but padding or background) has them all.
    """
    present = torch.stack([~absent[:, list(channels)].all(1) for channels in groups], dim=1)
    return present | ~present.any(1, keepdim=True)


@torch.compiler.disable
def tell_present(
    x: Tensor,
    groups: Sequence[Sequence[int]],
    blank_values: Tensor,
    names: Sequence[str] | None = None,
    only_blank: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the input, blank wherever it is absent, and which groups each sample has (see `present_groups`).

    Parameters
    ----------
    x, groups, blank_values
        See `absent_channels`.
    names : sequence of str or None
        Names of the groups, for a warning about a channel that is constant and not blank; None gives no warning.
    only_blank : bool
        Whether only blank channels are absent.
    """
    blank = blank_channels(x, blank_values)
    if only_blank:
        return x, present_groups(blank, groups)
    constant = constant_beside_others(x, groups) & ~blank
    if names is not None:
        group_of = {channel: name for name, channels in zip(names, groups, strict=True) for channel in channels}
        for channel, is_constant in enumerate(constant.any(0).tolist()):
            if is_constant:
                _warn_once(channel, group_of[channel])
    shape = (*x.shape[:2], *[1] * (x.ndim - 2))
    x = torch.where(constant.view(shape), blank_values.to(x.dtype).view(1, -1, *shape[2:]), x)
    return x, present_groups(blank | constant, groups)


@functools.cache
def _warn_once(channel: int, name: str) -> None:
    """Warn of a constant channel, once per process."""
    warnings.warn(
        f"Channel {channel} ({name}) is constant in a patch where others vary, and is treated as absent there. That is "
        "harmless where a scan shows nothing but air; if there is no scan, fill the image with zeros.",
        stacklevel=2,
    )


def rows_of(present: Tensor) -> list[list[int]]:
    """Return, per group, the indices of the samples that have it."""
    return [[sample for sample, is_there in enumerate(column) if is_there] for column in present.T.tolist()]
