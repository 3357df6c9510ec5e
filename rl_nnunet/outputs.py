"""What networks hand to losses and agents while they train: named tuples, each field with its shape.

Losses and agents take these and nothing else from a network, so that either can be tried on tuples made by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def to_device(values: Sequence[int] | Sequence[float], device: torch.device) -> Tensor:
    """Return numbers of the host as a tensor on a device; the host does not wait for the copy."""
    tensor = torch.tensor(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Alignment(NamedTuple):
    """What one XAlign module did in one forward pass; the raw material of alignment losses and of its agent.

    Attributes
    ----------
    main, aligned : Tensor
        Main and aligned auxiliary feature maps of the links, (L, C, *spatial).
    context : dict of str to Tensor
        What the policy saw.
    rotations : Tensor
        Indices of the drawn rotations, (L, K_sel).
    log_probability : Tensor
        Log-probability of the draw in nats, (L,).
    probabilities : Tensor
        Probability of each rotation, (L, R); 0 of those that the stage leaves out.
    """

    main: Tensor
    aligned: Tensor
    context: dict[str, Tensor]
    rotations: Tensor
    log_probability: Tensor
    probabilities: Tensor


class BranchOutput(NamedTuple):
    """What `rl_nnunet.networks.rl_u2net.RLU2Net` returns while it trains.

    Attributes
    ----------
    logits : list
        Per branch, the decoder's output for the samples that have the branch: a list over nnU-Net's deep-supervision
        scales (finest first) of (samples, classes, *spatial), or one such tensor without deep supervision, or None
        where no sample has the branch.
    samples : list of list of int
        Per branch, the indices of these samples in the batch.
    alignments : list of Alignment
        One per aligned stage; empty if no sample has two branches.
    link_samples : list of int
        Sample of each link of the alignments.
    link_branches : list of pair of int
        Main and auxiliary branch of each link: its direction.
    """

    logits: list[list[Tensor] | Tensor | None]
    samples: list[list[int]]
    alignments: list[Alignment]
    link_samples: list[int]
    link_branches: list[tuple[int, int]]

    def mean_logits(self) -> list[Tensor] | Tensor:
        """Return the mean of the logits of each sample's present branches, in the structure of the logits."""
        batch_size = 1 + max(max(indices) for indices in self.samples if indices)
        first = next(logits for logits in self.logits if logits is not None)
        if isinstance(first, list):
            return [self._mean_of_scale(batch_size, scale) for scale in range(len(first))]
        return self._mean_of_scale(batch_size, None)

    def _mean_of_scale(self, batch_size: int, scale: int | None) -> Tensor:
        present = [
            (logits if scale is None else logits[scale], indices)
            for logits, indices in zip(self.logits, self.samples, strict=True)
            if logits is not None
        ]
        if all(len(indices) == batch_size for _, indices in present):
            return sum(logits for logits, _ in present) / len(present)
        first = present[0][0]
        total = first.new_zeros((batch_size, *first.shape[1:]))
        count = first.new_zeros((batch_size, *[1] * (first.ndim - 1)))
        for logits, indices in present:
            index = to_device(indices, first.device)
            total = total.index_add(0, index, logits)
            count[index] += 1
        return total / count


class Episode(NamedTuple):
    """What the policy of one weight agent saw and did while it explored.

    Attributes
    ----------
    observations : Tensor
        (B, T, S).
    effective : Tensor
        Which entries of the actions have an effect, booleans (B, A): the weight of an absent modality has none.
    actions : Tensor
        (B, T, A); `rl_nnunet.policies.gaussian.weights_of` makes weights of them.
    log_probabilities : Tensor
        In nats, (B, T).
    """

    observations: Tensor
    effective: Tensor
    actions: Tensor
    log_probabilities: Tensor


class IterationOutput(NamedTuple):
    """What one iteration of `rl_nnunet.networks.intra_inter_net.IntraInterNet` returns.

    Attributes
    ----------
    fused : list of Tensor or Tensor
        O_fusion: nnU-Net's deep-supervision scales, finest first, or one tensor without deep supervision.
    modalities : list of Tensor or None
        O_m, (samples with the modality, classes, *spatial at half the resolution); None where no sample has it.
    decision : Tensor
        Weighted sum of all outputs, (B, classes, *spatial).
    """

    fused: list[Tensor] | Tensor
    modalities: list[Tensor | None]
    decision: Tensor


class Exploration(NamedTuple):
    """What came out of the same batch with drawn actions in the place of the mean ones, without gradient.

    Attributes
    ----------
    decisions : list of Tensor
        Of iterations 1 to T, each (B, classes, *spatial); iteration 0 has no actions.
    episodes : dict of str to Episode
        What each agent's policy saw and did.
    """

    decisions: list[Tensor]
    episodes: dict[str, Episode]


class Selection(NamedTuple):
    """What a selection policy saw, and what comes out if a modality is left out, without gradient.

    Attributes
    ----------
    observations : Tensor
        (B, S).
    present : Tensor
        Booleans (B, M).
    decisions : list of Tensor
        Without each modality, (B, classes, *spatial); those of samples that have no other mean nothing.
    """

    observations: Tensor
    present: Tensor
    decisions: list[Tensor]


class IntraInterOutput(NamedTuple):
    """What `rl_nnunet.networks.intra_inter_net.IntraInterNet` returns while it trains.

    Attributes
    ----------
    iterations : list of IterationOutput
        Iterations 0 to T, with the mean actions of the agents.
    trained : list of int
        Those of them that carry a gradient.
    samples : list of list of int
        Per modality, the samples of the batch that have it.
    weights : dict of str to Tensor
        Weights of the last iteration by agent, (B, A), NaN where they have no effect.
    exploration : Exploration or None
        None in steps in which the agents do not explore.
    selection : Selection or None
        None in steps in which no modality was left out for a try.
    """

    iterations: list[IterationOutput]
    trained: list[int]
    samples: list[list[int]]
    weights: dict[str, Tensor]
    exploration: Exploration | None
    selection: Selection | None = None
