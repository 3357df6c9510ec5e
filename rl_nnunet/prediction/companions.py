"""RL-U2Net's cross-slice ensemble: a scan is segmented while the network sees the same place in another scan.

After the decision-making module of RL-U2Net (eq. 14-16): each window of one scan is paired with the window of the other
that covers the same place, and windows that do not overlap the other scan are predicted alone. The loop over windows,
mirroring, the Gaussian weights and all that comes after them are nnU-Net's. It gets a volume from which it takes
windows as from any other, with the companions' windows behind the target's, and a network that returns the logits of
the target's branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from rl_nnunet.windows import corresponding_window, interpolated_axes


@dataclass(frozen=True)
class Companion:
    """Another scan of the patient.

    Parameters
    ----------
    channels : tuple of int
        Which channels of the network are its.
    data : Tensor
        Those channels, preprocessed, (channels, *spatial).
    to_index : array
        The map from indices of the target, preprocessed, to its own, (4, 4).
    """

    channels: tuple[int, ...]
    data: Tensor
    to_index: np.ndarray

    def window(self, lower: np.ndarray, size: np.ndarray, axes: np.ndarray) -> Tensor | None:
        """Return the window around the place of the target's window; None if it shows nothing of this scan.

        Parameters
        ----------
        lower, size : array
            First index of the target's window, and its size, in voxels.
        axes : array
            Booleans: along which axes the window may lie between voxels.
        """
        place = corresponding_window(self.to_index, lower, size, axes)
        start = place.start
        if (start >= self.data.shape[1:]).any() or (start + size <= 0).any():
            return None
        box = [[int(first), int(first + extent)] for first, extent in zip(start, size, strict=True)]
        return crop_and_pad_nd(place.shown_by(self.data), box, 0)


@dataclass(frozen=True)
class PairedScan:
    """What takes the place of a preprocessed scan where nnU-Net predicts one.

    Parameters
    ----------
    data : Tensor
        The target, preprocessed, with the channels of its companions blank, (channels, *spatial).
    branches : tuple of int
        The target's branches.
    companions : tuple of Companion
        At least one.
    """

    data: Tensor
    branches: tuple[int, ...]
    companions: tuple[Companion, ...]

    @property
    def channels(self) -> list[int]:
        """The channels of the companions."""
        return [channel for companion in self.companions for channel in companion.channels]


class PairedWindows:
    """A padded target that hands out windows with those of the companions behind its channels.

    Where a companion is out of reach, its window is the target's own: blank.

    Parameters
    ----------
    data : Tensor
        The padded target, (channels, *spatial).
    offset : array
        How many voxels were padded in front.
    companions : sequence of Companion
        The companions.
    axes : array
        Booleans: along which axes their windows may lie between voxels.
    """

    def __init__(self, data: Tensor, offset: np.ndarray, companions: Sequence[Companion], axes: np.ndarray) -> None:
        self.data, self.offset, self.companions, self.axes = data, offset, companions, axes

    @property
    def shape(self) -> torch.Size:
        """That of the target."""
        return self.data.shape

    def to(self, device: torch.device) -> PairedWindows:
        """Return the same on a device."""
        companions = [replace(companion, data=companion.data.to(device)) for companion in self.companions]
        return PairedWindows(self.data.to(device), self.offset, companions, self.axes)

    def __getitem__(self, slicer: tuple[slice | int, ...]) -> Tensor:
        """Return a window, (channels and companions' channels, *patch); in 2D, the slicer holds a whole number."""
        own, places = self.data[slicer], slicer[1:]
        lower = np.array([place if isinstance(place, int) else place.start for place in places]) - self.offset
        size = np.array([1 if isinstance(place, int) else place.stop - place.start for place in places])
        windows = [own]
        for companion in self.companions:
            window = companion.window(lower, size, self.axes)
            channels = list(companion.channels)
            windows.append(own[channels] if window is None else window.reshape(len(channels), *own.shape[1:]))
        return torch.cat(windows)


class TargetBranches(nn.Module):
    """A network that returns the logits of some of its branches, for windows of `PairedWindows`.

    Where no companion is in reach, or the target's own window is blank and its branches have no logits, the window is
    predicted as if there were no companion.

    Parameters
    ----------
    network : Module
        It keeps its branches apart in ``forward_branches``.
    scan : PairedScan
        The scan that is predicted.
    """

    def __init__(self, network: nn.Module, scan: PairedScan) -> None:
        super().__init__()
        self.network, self.branches, self.channels = network, scan.branches, scan.channels
        self.count = scan.data.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """Segment one window, (1, channels and companions' channels, *spatial)."""
        alone, companions = x[:, : self.count], x[:, self.count :]
        if torch.equal(alone[:, self.channels], companions):
            return self.network(alone)
        together = alone.clone()
        together[:, self.channels] = companions
        logits = self.network.forward_branches(together).logits
        own = [logits[branch] for branch in self.branches if logits[branch] is not None]
        return sum(own) / len(own) if own else self.network(alone)


class CompanionPredictor(nnUNetPredictor):
    """nnU-Net's predictor, which takes a `PairedScan`, too."""

    _scan: PairedScan | None = None

    def predict_sliding_window_return_logits(self, input_image: Tensor | PairedScan) -> Tensor:
        """Return the logits of a preprocessed scan."""
        if not isinstance(input_image, PairedScan):
            return super().predict_sliding_window_return_logits(input_image)
        self._scan = input_image
        try:
            return super().predict_sliding_window_return_logits(input_image.data)
        finally:
            self._scan = None

    def _internal_predict_sliding_window_return_logits(self, data: Tensor, *arguments: Any, **options: Any) -> Tensor:
        scan, network = self._scan, self.network
        if scan is None:
            return super()._internal_predict_sliding_window_return_logits(data, *arguments, **options)
        offset = np.subtract(data.shape[1:], scan.data.shape[1:]) // 2  # pad_nd_image puts the scan in the middle
        self.network = TargetBranches(network, scan)
        try:
            axes = interpolated_axes(self.configuration_manager.spacing)
            windows = PairedWindows(data, offset, scan.companions, axes)
            return super()._internal_predict_sliding_window_return_logits(windows, *arguments, **options)
        finally:
            self.network = network
