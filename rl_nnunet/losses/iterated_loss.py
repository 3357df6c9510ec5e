"""The loss over iterations and modalities of the intra- and inter-modality agents' network.

Zhu et al. (see `rl_nnunet.networks.intra_inter_net`), eq. 2: the sum over the iterations t = 0 to T of the losses of
all modalities' own outputs and lambda = 4 times that of the fused output. The paper's L is the cross entropy of a
classifier; ours is nnU-Net's (Dice and cross entropy, regions, ignore label, deep supervision of the fused output).

Eq. 2 judges every output, but not the decision that they make together. A modality's own output that is trained alone
learns to deny what the modality does not show, which costs the decision more than it costs that output. Half of lambda
therefore goes to the loss of the iteration's decision.

We divide the sum by the sum of its weights. Adam does not notice a constant factor; nnU-Net's gradient clipping and the
learning rate of its SGD do, and they are made for a loss of this size.

Iterations without a gradient (see ``trained_iterations`` there) are left out of the sum.

Where several ranks train (`rl_nnunet.distributed`), the losses are `rl_nnunet.losses.joint_loss.JointLoss`, and the
modalities are those that any rank has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl_nnunet.distributed import shares
from rl_nnunet.losses.joint_loss import JointLoss, first_there, no_samples
from rl_nnunet.outputs import IntraInterOutput, IterationOutput
from rl_nnunet.targets import Target, at_one_size
from rl_nnunet.targets import finest as finest_target


@dataclass
class IteratedLossReport:
    """What the last step's loss consisted of, for the logs.

    Attributes
    ----------
    fused, decision : float
        Loss of the fused output and of the decision, last iteration.
    modalities : list of float
        Loss of each modality's own output, mean over the trained iterations; NaN where no sample has it.
    output : IntraInterOutput
        The network's output.
    """

    fused: float
    decision: float
    modalities: list[float]
    output: IntraInterOutput


class IteratedLoss(nn.Module):
    """Eq. 2 with half of lambda for the decision, divided by the sum of the weights.

    Parameters
    ----------
    fused : callable
        Maps (output, target) of the fused output to a scalar; both are lists over scales with deep supervision.
    finest : callable
        Maps (logits, target) at full resolution to a scalar, for the decision and the modalities' own outputs.
    fused_output_weight : float
        lambda of eq. 2; the network's decision weighs its outputs with it, too, so that it stands in the plans.
    """

    def __init__(self, fused: Callable[..., Tensor], finest: Callable[..., Tensor], fused_output_weight: float) -> None:
        super().__init__()
        self.fused = fused
        self.finest = finest
        self.fused_output_weight = fused_output_weight
        self.report: IteratedLossReport | None = None

    def forward(self, output: IntraInterOutput | Tensor | list[Tensor], target: Target) -> Tensor:
        """Return the loss; of a plain segmentation (the network in evaluation mode) nnU-Net's own."""
        if not isinstance(output, IntraInterOutput):
            return self.fused(output, target)
        finest = finest_target(target)
        trained = [output.iterations[t] for t in output.trained]
        *own_shares, share = shares([*map(len, output.samples), len(finest)])
        fused = [_judge(self.fused, iteration.fused, target, share) for iteration in trained]
        decision = [_judge(self.finest, iteration.decision, finest, share) for iteration in trained]
        own = [self._own_losses(iteration, output.samples, own_shares, target) for iteration in trained]
        present = [m for m, loss in enumerate(own[0]) if loss is not None]  # on any rank
        fusion = self.fused_output_weight
        total = fusion / 2 * (sum(fused) + sum(decision)) + sum(losses[m] for losses in own for m in present)
        own_means = [torch.stack([losses[m] for losses in own]).mean() for m in present if output.samples[m]]
        # One transfer from the device for everything that is reported.
        values = torch.stack([fused[-1], decision[-1], *own_means]).detach().float().tolist()
        modalities = dict(zip((m for m in present if output.samples[m]), values[2:], strict=True))
        self.report = IteratedLossReport(
            *values[:2], [modalities.get(m, float("nan")) for m in range(len(output.samples))], output
        )
        return total / (len(fused) * (fusion + len(present)))

    def _own_losses(
        self,
        iteration: IterationOutput,
        samples: Sequence[Sequence[int]],
        shares: Sequence[float | None],
        target: Target,
    ) -> list[Tensor | None]:
        losses: list[Tensor | None] = []
        for logits, rows, share in zip(iteration.modalities, samples, shares, strict=True):
            if share is None:
                losses.append(None)
                continue
            if logits is None:
                logits = no_samples(first_there(iteration.modalities))
            resized, truth = at_one_size(logits, target)
            truth = truth if len(rows) == len(truth) else truth[list(rows)]
            losses.append(_judge(self.finest, resized, truth, share))
        return losses


def _judge(loss: Callable[..., Tensor], logits: Any, target: Target, share: float) -> Tensor:
    """Return the loss; where several ranks train, tell it the share of this one."""
    return loss(logits, target, share) if isinstance(loss, JointLoss) else loss(logits, target)
