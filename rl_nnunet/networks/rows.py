"""The samples of a batch that have a modality, among all samples; indices are known on the host."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rl_nnunet.outputs import to_device


def take(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some samples of a batch; all of them without a copy."""
    return values if len(rows) == len(values) else values.index_select(0, to_device(rows, values.device))


def place(values: Tensor, rows: Sequence[int], size: int) -> Tensor:
    """Return a batch of `size` samples with the given ones at some places, and zeros elsewhere."""
    if len(rows) == size:
        return values
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, to_device(rows, values.device), values)
