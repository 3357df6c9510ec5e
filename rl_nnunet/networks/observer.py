"""What the intra- and the inter-modality agent see of a patch: what differs where a modality helps and where not.

Zhu et al. (see `rl_nnunet.networks.intra_inter_net`), section 2.1 and 2.2, show the agents the deepest features,
averaged over the volume. Behind an instance normalization such an average is the channel's bias, whatever the image
shows, so that a modality that is nothing but noise hardly moves it. Ours see, per modality,

- of the input, beside its presence: the share of the patch that is not blank, and there the mean, the spread (logarithm
  of the standard deviation) and the roughness (mean difference of neighbors, relative to the spread);
- of its own output in every iteration: the entropy, and the agreement with the mean of the others (soft Dice of the
  foreground);

and the entropy of the weighted sum of all own outputs. The intra agent, who weighs channels, also sees their spreads
behind the first convolution of the stems, before the normalization. The outputs are taken at the resolution of the
second stage, which costs an eighth of the finest in 3D. Nothing of this carries a gradient.

Every entry is standardized by its running mean and standard deviation over the samples of the training. (A layer
normalization over the entries, as policies have it often, mixes their units.) What is not known (NaN: of an absent
modality, the agreement of one that is alone, an overflow under mixed precision) is 0 then, the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_nnunet.distributed import summed_over_ranks
from rl_nnunet.presence.patches import blank_voxels

MEMORY = 2000
"""Samples over which the running statistics reach; features drift while the network learns."""
LIMIT = 5.0
"""Standard deviations to which an observation is clipped."""
TINY = 1e-6


class RunningStandardization(nn.Module):
    """Standardizes entries by mean and variance of what was seen; the statistics are part of the network's weights.

    Parameters
    ----------
    size : int
        Entries.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros(size))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Take values (B, size) into account; those that are not finite are left out.

        Means and variances are pooled (Chan, Golub and LeVeque 1983), those of before with a weight of `MEMORY` samples
        at most. Where several ranks train, they are those of the values of all.
        """
        known = values.isfinite()
        values, n = values.where(known, 0), summed_over_ranks(known.sum(0))
        mean = summed_over_ranks(values.sum(0)) / n.clamp(min=1)
        squares = summed_over_ranks(((values - mean).square() * known).sum(0))
        total = (self.count + n).clamp(min=1)
        delta = mean - self.mean
        pooled = (self.count * self.variance + squares + delta.square() * self.count * n / total) / total
        self.variance.copy_(pooled.where(self.count + n > 0, self.variance))
        self.mean.add_(delta * n / total)
        self.count.add_(n).clamp_(max=MEMORY)

    def forward(self, values: Tensor) -> Tensor:
        """Return standardized values (B, size), within `LIMIT`; 0 for those that are not finite."""
        standardized = (values - self.mean) / self.variance.clamp(min=TINY**2).sqrt()
        return standardized.clamp(-LIMIT, LIMIT).where(values.isfinite(), 0)


class Observer(nn.Module):
    """Makes the observations of both agents.

    Parameters
    ----------
    modalities : int
        M.
    channels : int
        Channels behind the stems.
    regions : bool
        Whether outputs are regions, with a sigmoid each, in place of classes with a softmax.
    """

    def __init__(self, modalities: int, channels: int, regions: bool) -> None:
        super().__init__()
        self.regions = regions
        shared = 6 * modalities + 1
        self.shared = RunningStandardization(shared)
        self.channels = RunningStandardization(channels)
        self.sizes = {"intra": modalities + shared + channels, "inter": modalities + shared}

    def forward(
        self, inputs: Tensor, channels: Tensor, outputs: Tensor, present: Tensor, update: bool
    ) -> dict[str, Tensor]:
        """Return what each agent sees, (B, its entry in ``sizes``).

        Parameters
        ----------
        inputs, channels, outputs : Tensor
            From `input_statistics`, `channel_spreads` and `output_statistics`.
        present : Tensor
            Booleans (B, M).
        update : bool
            Update the running statistics first.
        """
        shared = torch.cat((inputs, outputs), dim=1)
        if update:
            self.shared.update(shared)
            self.channels.update(channels)
        seen = torch.cat((present.float(), self.shared(shared)), dim=1)
        return {"intra": torch.cat((seen, self.channels(channels)), dim=1), "inter": seen}


@torch.no_grad()
def input_statistics(x: Tensor, present: Tensor, blank_values: Tensor) -> Tensor:
    """Return share of the patch, mean, log spread and roughness of every modality where it is not blank.

    Parameters
    ----------
    x : Tensor
        (B, M, *spatial).
    present : Tensor
        Booleans (B, M).
    blank_values : Tensor
        (M,).

    Returns
    -------
    Tensor
        (B, 4 M), the M shares first, float32; NaN for modalities that are absent.
    """
    x = x.float()
    filled = ~blank_voxels(x, blank_values)
    size = filled.flatten(2).sum(2)
    mean = (x * filled).flatten(2).sum(2) / size.clamp(min=1)
    centered = (x - mean.view(*mean.shape, *[1] * (x.ndim - 2))) * filled
    spread = (centered.flatten(2).square().sum(2) / size.clamp(min=1)).sqrt()
    differences, pairs = torch.zeros_like(mean), torch.zeros_like(mean)
    for axis in range(2, x.ndim):
        length = x.shape[axis] - 1
        both = filled.narrow(axis, 0, length) & filled.narrow(axis, 1, length)
        differences += (x.diff(dim=axis).abs() * both).flatten(2).sum(2)
        pairs += both.flatten(2).sum(2)
    roughness = differences / pairs.clamp(min=1) / spread.clamp(min=TINY)
    share = size / math.prod(x.shape[2:])
    statistics = torch.stack((share, mean, spread.clamp(min=TINY).log(), roughness), dim=1)
    return statistics.where(present[:, None], torch.nan).flatten(1)


@torch.no_grad()
def channel_spreads(maps: Tensor) -> Tensor:
    """Return the logarithm of each channel's standard deviation over the patch, (B, C), of maps (B, C, *spatial)."""
    return maps.float().flatten(2).std(2, correction=0).clamp(min=TINY).log()


@torch.no_grad()
def output_statistics(
    own: Sequence[Tensor | None],
    weights: Tensor,
    samples: Sequence[Sequence[int]],
    present: Tensor,
    regions: bool,
    background: bool = True,
) -> Tensor:
    """Return entropy and agreement of the modalities' own outputs, and the entropy of their weighted sum.

    Parameters
    ----------
    own : sequence of Tensor or None
        Logits of each modality, (its samples, classes, *spatial); None where no sample has it.
    weights : Tensor
        W_f, (B, M).
    samples : sequence of sequence of int
        Per modality, the samples of `own`.
    present : Tensor
        Booleans (B, M): of samples that are not, the outputs count neither as ones nor among the others.
    regions : bool
        See `Observer`.
    background : bool
        Whether the first class is one that does not count for the agreement.

    Returns
    -------
    Tensor
        (B, 2 M + 1), float32; NaN where a modality is absent, or has no others to agree with.
    """
    first = next(logits for logits in own if logits is not None)
    logits = torch.zeros(len(present), len(own), *first.shape[1:], device=first.device)
    for modality, (one, rows) in enumerate(zip(own, samples, strict=True)):
        if one is not None:
            logits[list(rows), modality] = one.float()
    shape = (*present.shape, *[1] * (first.ndim - 1))
    probabilities = _probabilities(logits, 2, regions)
    counted = present.view(shape)
    entropy = _entropy(probabilities, 2, regions).where(present, torch.nan)
    joint = _entropy(_probabilities((logits * weights.float().view(shape) * counted).sum(1), 1, regions), 1, regions)
    foreground = probabilities[:, :, 1:] if background and not regions else probabilities
    foreground = foreground * counted
    others = present.sum(1, keepdim=True) - 1
    mean_of_others = (foreground.sum(1, keepdim=True) - foreground) / others.clamp(min=1).view(
        -1, *[1] * foreground[0].ndim
    )
    overlap = 2 * (foreground * mean_of_others).flatten(2).sum(2)
    agreement = overlap / (foreground + mean_of_others).flatten(2).sum(2).clamp(min=TINY)
    return torch.cat((entropy, agreement.where(present & (others > 0), torch.nan), joint[:, None]), dim=1)


def _probabilities(logits: Tensor, axis: int, regions: bool) -> Tensor:
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=axis)


def _entropy(probabilities: Tensor, axis: int, regions: bool) -> Tensor:
    """Return the entropy, as a share of the highest possible one, averaged over the patch and, if any, regions."""
    if regions:
        entropy = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        return entropy.flatten(axis).mean(axis) / math.log(2)
    entropy = torch.special.entr(probabilities).sum(axis)
    return entropy.flatten(axis).mean(axis) / math.log(max(2, probabilities.shape[axis]))
