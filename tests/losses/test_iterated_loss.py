"""Eq. 2 of the intra- and inter-modality agents written out."""

import math

import pytest
import torch
from torch.nn import functional

from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.outputs import IntraInterOutput, IterationOutput


def finest(logits, target):
    return functional.cross_entropy(logits, target[:, 0])


def fused(logits, target):
    if isinstance(logits, list):
        return sum(finest(x, y) for x, y in zip(logits, target, strict=True)) / len(logits)
    return finest(logits, target)


@pytest.fixture
def targets():
    torch.manual_seed(0)
    return [torch.randint(2, (3, 1, size, size)) for size in (4, 2)]


def output(samples, deep_supervision, trained=(0, 1, 2), iterations=3):
    def logits(count, size=4):
        return torch.randn(count, 2, size, size, requires_grad=True)

    made = [
        IterationOutput(
            fused=[logits(3), logits(3, 2)] if deep_supervision else logits(3),
            decision=logits(3),
            modalities=[logits(len(rows)) if rows else None for rows in samples],
        )
        for _ in range(iterations)
    ]
    return IntraInterOutput(made, list(trained), samples, {}, None)


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("samples", [[[0, 1, 2], [0, 1, 2]], [[0, 2], []]])
@pytest.mark.parametrize("trained", [(0, 1, 2), (0, 2)])
def test_sum_over_iterations_and_outputs(targets, samples, deep_supervision, trained):
    out = output(samples, deep_supervision, trained)
    loss = IteratedLoss(fused, finest, 4.0)
    total = loss(out, targets if deep_supervision else targets[0])
    expected, weight = 0.0, 0.0
    for iteration in (out.iterations[t] for t in trained):
        expected += 2 * fused(iteration.fused, targets if deep_supervision else targets[0]).item()
        expected += 2 * finest(iteration.decision, targets[0]).item()
        weight += 4
        for logits, rows in zip(iteration.modalities, samples, strict=True):
            if rows:
                expected += finest(logits, targets[0][rows]).item()
                weight += 1
    assert total.item() == pytest.approx(expected / weight, rel=1e-5)
    assert [math.isnan(value) for value in loss.report.modalities] == [not rows for rows in samples]
    last = out.iterations[-1]
    assert loss.report.fused == pytest.approx(fused(last.fused, targets if deep_supervision else targets[0]).item())
    assert loss.report.decision == pytest.approx(finest(last.decision, targets[0]).item())
    total.backward()


def test_a_plain_segmentation_gets_the_loss_of_the_fused_output(targets):
    logits = torch.randn(3, 2, 4, 4)
    assert torch.equal(IteratedLoss(fused, finest, 4.0)(logits, targets[0]), finest(logits, targets[0]))
