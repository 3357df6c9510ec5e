"""The loss of RL-U2Net over its branches: segmentation (eq. 18-19) plus alignment (eq. 17), summed by eq. 20.

Dice and cross entropy come from outside (nnU-Net's own classes, so that ignore label, regions, deep supervision and
batch Dice keep working) and are given twice, once for each term, because eq. 18-19 balance each on its own.

The alignment losses are means over directions, each with a softmax of its own, and count only links between crops of
the same anatomy: pulling a liver towards a heart because both came up in one batch teaches nothing.

The paper's data are unpaired, and each branch is judged on its own. Paired branches share one label map and are
predicted together, hence the mean of their logits is judged, too: a branch that is trained alone learns to deny a
structure that its modality does not show, and in the mean it then outvotes the branch that sees it.

The segmentation losses are averaged over all that is judged (branches, and their mean), where eq. 20 has a sum:
nnU-Net's gradient clipping and the learning rate of its SGD are made for a loss of the size of one.

Where several ranks train (`rl_nnunet.distributed`), what is judged is what any of them has, and the loss is that of one
process with all samples, but for the alignment: its softmax knows the samples of one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rl_nnunet.distributed import shares
from rl_nnunet.losses.alignment import cosine_embedding, info_nce
from rl_nnunet.losses.joint_loss import Logits, first_there, no_samples
from rl_nnunet.outputs import Alignment, BranchOutput, to_device
from rl_nnunet.targets import BranchTargets, Target, finest


class BranchWeights(Protocol):
    """What weighs the branches' losses: AGWD, or an agent."""

    def update(self, losses: dict[int, float | Tensor]) -> Tensor:
        """Account for one step's losses of the branches present; return the weights of all branches, (branches,)."""
        ...


@dataclass(frozen=True)
class AlignmentLossConfig:
    """Weights of the alignment losses; the paper states none of them.

    Parameters
    ----------
    weight : float
        lambda_1 of eq. 20, in units of one segmentation loss, of the mean over the aligned stages (eq. 20 has their
        sum; the mean keeps the balance when a plan has more stages).
    info_nce : float
        alpha of eq. 17.
    cosine : float
        beta of eq. 17.
    """

    weight: float = 0.05
    info_nce: float = 1.0
    cosine: float = 1.0


@dataclass
class LossReport:
    """What the last step's loss consisted of; floats, for the logs, and for the agents' reward.

    Attributes
    ----------
    dice : dict of int to float
        Per present branch the soft Dice coefficient, 1 - L_Dice of eq. 8-9.
    segmentation : dict of int to float
        Per present branch the unweighted sum of Dice loss and cross entropy.
    dice_weights, cross_entropy_weights : list of float
        Weight of every branch.
    alignment : float
        The alignment loss before its weight.
    matched_links : list of int
        Which links of the output join crops of the same anatomy.
    output : BranchOutput
        The network's output.
    """

    dice: dict[int, float]
    segmentation: dict[int, float]
    dice_weights: list[float]
    cross_entropy_weights: list[float]
    alignment: float
    matched_links: list[int]
    output: BranchOutput


class BranchedLoss(nn.Module):
    """Loss over a `BranchOutput` and nnU-Net's targets.

    Parameters
    ----------
    dice, cross_entropy : callable
        Map (logits, target) to a scalar. `dice` is nnU-Net's negative soft Dice, in [-1, 0].
    targets : BranchTargets
        How the targets of the branches lie in a batch.
    dice_weights, cross_entropy_weights : BranchWeights or None
        For either term; None weighs all branches equally (the ablation "w/o AGWD").
    alignment : AlignmentLossConfig or None
        None leaves the alignment losses out (the ablation "w/o auxiliary loss").
    joint_dice : JointDice or None
        In the place of `dice` in training, where several ranks train with batch Dice.

    Attributes
    ----------
    matched : sequence of bool or None
        Whether the branches of each sample show the same anatomy, in the batch that comes next; None where all do, as
        in paired data. nnU-Net hands outputs and targets to a loss and nothing else, so that the trainer sets it.
    report : LossReport or None
        Of the last step.
    """

    def __init__(
        self,
        dice: Callable[..., Tensor],
        cross_entropy: Callable[..., Tensor],
        targets: BranchTargets,
        dice_weights: BranchWeights | None,
        cross_entropy_weights: BranchWeights | None,
        alignment: AlignmentLossConfig | None,
        joint_dice: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.dice = dice
        self.joint_dice = joint_dice
        self.cross_entropy = cross_entropy
        self.targets = targets
        self.dice_weights = dice_weights
        self.cross_entropy_weights = cross_entropy_weights
        self.alignment = alignment
        self.matched: Sequence[bool] | None = None
        self.report: LossReport | None = None

    def forward(self, output: BranchOutput | Tensor | list[Tensor], target: Target) -> Tensor:
        """Return the loss; of a plain segmentation (the network in evaluation mode) nnU-Net's own."""
        if not isinstance(output, BranchOutput):
            return self.dice(output, target) + self.cross_entropy(output, target)
        matched_links = [i for i, s in enumerate(output.link_samples) if self.matched is None or self.matched[s]]
        counts = [*map(len, output.samples), len(matched_links), len(finest(target))]
        *branch_shares, link_share, batch_share = shares(counts)
        judged_shares = {branch: share for branch, share in enumerate(branch_shares) if share is not None}
        dice, cross_entropy = {}, {}
        for branch in judged_shares:
            dice[branch], cross_entropy[branch] = self._terms(output, target, branch)
        alignment = self._alignment(output, matched_links, device=next(iter(dice.values())).device)
        # One transfer from the device for everything that is reported, and that AGWD weighs by.
        keys = list(dice)
        values = torch.stack([*dice.values(), *cross_entropy.values(), alignment]).detach().float().tolist()
        present = [branch for branch in keys if output.samples[branch]]
        dice_values, entropy_values = (
            {branch: value for branch, value in zip(keys, part, strict=True) if branch in present}
            for part in (values[: len(keys)], values[len(keys) : -1])
        )
        of_dice = judged_shares if self.joint_dice is None else dict.fromkeys(keys, 1.0)
        dice_total, dice_weights = self._balance(dice, dice_values, of_dice, self.dice_weights)
        entropy_total, entropy_weights = self._balance(
            cross_entropy, entropy_values, judged_shares, self.cross_entropy_weights
        )
        self.report = LossReport(
            dice={b: -value for b, value in dice_values.items()},
            segmentation={b: 1 + value + entropy_values[b] for b, value in dice_values.items()},
            dice_weights=dice_weights,
            cross_entropy_weights=entropy_weights,
            alignment=values[-1],
            matched_links=matched_links,
            output=output,
        )
        total, judged = dice_total + entropy_total, len(dice)
        if not self.targets.are_joined and len(dice) > 1:
            total, judged = total + self.decision_loss(output, target, batch_share), judged + 1
        total = total / judged
        return total if self.alignment is None else total + self.alignment.weight * (link_share or 0.0) * alignment

    def _terms(self, output: BranchOutput, target: Target, branch: int) -> tuple[Tensor, Tensor]:
        """Return Dice loss and cross entropy of a branch that some rank has."""
        logits, samples = output.logits[branch], output.samples[branch]
        branch_target = self.targets.take(target, branch, samples)
        if logits is None:
            logits = no_samples(first_there(output.logits))
            nothing = finest(logits).sum()
            return nothing if self.joint_dice is None else self.joint_dice(logits, branch_target), nothing
        dice = self._dice(logits, branch_target)
        # nnU-Net returns a plain 0 where all voxels are ignored.
        cross_entropy = self.cross_entropy(logits, branch_target)
        return dice, torch.as_tensor(cross_entropy, dtype=torch.float32, device=dice.device)

    def _dice(self, logits: Logits, target: Target) -> Tensor:
        return (self.joint_dice or self.dice)(logits, target)

    def decision_loss(self, output: BranchOutput, target: Target, share: float = 1.0) -> Tensor:
        """Return the loss of the mean of the branches, which share one target; `share` is that of this rank's batch."""
        decision = output.mean_logits()
        of_dice = share if self.joint_dice is None else 1.0
        return of_dice * self._dice(decision, target) + share * self.cross_entropy(decision, target)

    def _balance(
        self,
        losses: dict[int, Tensor],
        values: dict[int, float],
        shares: dict[int, float],
        weights: BranchWeights | None,
    ) -> tuple[Tensor, list[float]]:
        """Return the weighted sum of the branches' losses, each times this rank's share of it, and the weights."""
        current = [1.0] * self.targets.num_branches if weights is None else weights.update(values).tolist()
        return sum(current[branch] * shares[branch] * loss for branch, loss in losses.items()), current

    def _alignment(self, output: BranchOutput, matched_links: Sequence[int], device: torch.device) -> Tensor:
        """Return the mean of the alignment losses over stages and over the matched links of every direction."""
        if self.alignment is None or not matched_links or not output.alignments:
            return torch.zeros((), device=device)
        directions: dict[tuple[int, int], list[int]] = {}
        for link in matched_links:
            directions.setdefault(output.link_branches[link], []).append(link)
        total = torch.zeros((), device=device)
        for links in directions.values():
            index, share = to_device(links, device), len(links) / len(matched_links)
            total = total + share * sum(self._alignment_of(a, index) for a in output.alignments)
        return total / len(output.alignments)

    def _alignment_of(self, alignment: Alignment, links: Tensor) -> Tensor:
        """Return eq. 17 of one stage, for links of one direction."""
        config, maps = self.alignment, (alignment.main[links], alignment.aligned[links])
        return config.info_nce * info_nce(*maps) + config.cosine * cosine_embedding(*maps)
