"""A shared encoder whose normalizations know the branch: one scale and one shift per branch and channel.

After UMMKD (Dou et al., "Unpaired multi-modal segmentation via knowledge distillation", IEEE TMI 2020), which shares
every convolution between CT and MRI and separates their normalizations: the modalities then differ in the statistics of
their features and not in what the features are. UMMKD normalizes with batch statistics; nnU-Net with those of the
instance, which belong to one branch anyway, so that what is left to separate is the affine part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORMALIZATIONS = (nn.InstanceNorm2d, nn.InstanceNorm3d)


class BranchRows:
    """Which branch each row of the encoder's batch belongs to; one object, shared by all normalizations of a network.

    Attributes
    ----------
    branches : Tensor
        Integers (rows,), set before each pass.
    """

    branches: Tensor


class BranchAffine(nn.Module):
    """A normalization, then the scale and shift of each row's branch.

    Parameters
    ----------
    normalization : nn.Module
        nnU-Net's, with affine parameters, which all branches start from; its own are taken away.
    num_branches : int
        Branches of the network.
    rows : BranchRows
        The branches of the rows.
    """

    def __init__(self, normalization: nn.Module, num_branches: int, rows: BranchRows) -> None:
        super().__init__()
        self.weight = nn.Parameter(normalization.weight.detach().repeat(num_branches, 1))
        self.bias = nn.Parameter(normalization.bias.detach().repeat(num_branches, 1))
        self.rows = rows
        normalization.affine = False
        normalization.weight = normalization.bias = None
        self.normalization = normalization

    def forward(self, x: Tensor) -> Tensor:
        """Normalize maps (rows, C, *spatial)."""
        shape = (len(x), -1, *[1] * (x.ndim - 2))
        weight, bias = (p.index_select(0, self.rows.branches) for p in (self.weight, self.bias))
        return torch.addcmul(bias.view(shape).to(x.dtype), self.normalization(x), weight.view(shape).to(x.dtype))


def separate_normalizations(module: nn.Module, num_branches: int) -> BranchRows:
    """Give every affine normalization within a module a scale and shift per branch; return what tells the branches.

    Raises
    ------
    ValueError
        If there is none.
    """
    rows = BranchRows()
    # The blocks hold a normalization under two names, as an attribute and in a sequence.
    separated: dict[nn.Module, BranchAffine] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, NORMALIZATIONS) and (child.affine or child in separated):
                if child not in separated:
                    separated[child] = BranchAffine(child, num_branches, rows)
                setattr(parent, name, separated[child])
    if not separated:
        raise ValueError(f"{type(module).__name__} has no affine instance normalization to separate by branch")
    return rows
