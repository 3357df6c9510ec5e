"""The output of one modality of `rl_nnunet.networks.intra_inter_net`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd


class ModalityHead(nn.Module):
    """A modality's own output: a 1x1 convolution of each of some stages' maps, upsampled and added.

    The layers are called as in nnU-Net's decoder, so that ``-pretrained_weights`` leaves them out, too.
    """

    def __init__(self, conv_op: type[_ConvNd], channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.seg_layers = nn.ModuleList(conv_op(size, num_classes, 1) for size in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, *spatial) at the resolution of the first of the maps."""
        mode = "trilinear" if maps[0].ndim == 5 else "bilinear"
        logits = self.seg_layers[-1](maps[-1])
        for layer, finer in zip(reversed(self.seg_layers[:-1]), reversed(maps[:-1]), strict=True):
            logits = layer(finer) + F.interpolate(logits, size=finer.shape[2:], mode=mode)
        return logits
