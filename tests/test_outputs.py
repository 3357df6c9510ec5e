"""The mean over the branches that a sample has, against going sample by sample."""

import pytest
import torch

from rl_nnunet.outputs import BranchOutput


def mean_logits(branch_logits, samples):
    """The mean over the branches that a sample has, sample by sample."""
    first = next(logits for logits in branch_logits if logits is not None)
    if isinstance(first, list):
        scales = range(len(first))
        return [mean_logits([logits and logits[s] for logits in branch_logits], samples) for s in scales]
    own = {
        sample: [
            logits[rows.index(sample)] for logits, rows in zip(branch_logits, samples, strict=True) if sample in rows
        ]
        for rows in samples
        for sample in rows
    }
    return torch.stack([torch.stack(own[sample]).mean(0) for sample in sorted(own)])


@pytest.mark.parametrize("samples", [[[0, 1], [0, 1]], [[1], [0, 2]], [[0, 1], []], [[0, 1], [1]]])
@pytest.mark.parametrize("scales", [None, (8, 4)])
def test_mean_logits(samples, scales):
    logits = [
        None
        if not rows
        else [torch.randn(len(rows), 2, size, size) for size in scales]
        if scales
        else torch.randn(len(rows), 2, 4, 4)
        for rows in samples
    ]
    torch.testing.assert_close(BranchOutput(logits, samples, [], [], []).mean_logits(), mean_logits(logits, samples))
