"""From the files of a scan and its companions to what the network takes, in processes beside the prediction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.data_iterators import preprocess_fromfiles_save_to_queue
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor

from rl_nnunet.errors import InputError
from rl_nnunet.grids import check_resampled, preprocessed_affine
from rl_nnunet.prediction.companions import Companion, PairedScan
from rl_nnunet.prediction.patients import Scan, Target
from rl_nnunet.prediction.scan_reader import PlansOfScans, Resampled


@dataclass(frozen=True)
class Prepared:
    """A preprocessed scan: its channels, nnU-Net's properties, and per companion its channels and place.

    Arrays, because tensors travel between processes by file descriptors, of which there are few.
    """

    data: np.ndarray
    properties: dict[str, Any]
    companions: tuple[tuple[tuple[int, ...], np.ndarray, np.ndarray], ...] = ()

    def for_network(self, branches: Sequence[Sequence[int]], channels: Sequence[int]) -> Tensor | PairedScan:
        """Return what the predictor takes.

        Parameters
        ----------
        branches : sequence of sequence of int
            Channels of each branch of the network.
        channels : sequence of int
            The scan's.
        """
        data = torch.from_numpy(self.data)
        if not self.companions:
            return data
        own = tuple(index for index, group in enumerate(branches) if not set(group).isdisjoint(channels))
        companions = [Companion(there, torch.from_numpy(array), place) for there, array, place in self.companions]
        return PairedScan(data, own, tuple(companions))


@dataclass(frozen=True)
class Preprocessing:
    """Calls nnU-Net's preprocessing; it can be sent to another process.

    Parameters
    ----------
    plans : PlansOfScans
        The plans.
    configuration : ConfigurationManager
        The configuration.
    dataset_json : dict
        The content of ``dataset.json``.
    channels : int
        Of the network.
    by_windows : bool
        Whether companions stay on their grids, and are paired window by window; they are resampled otherwise.
    verbose : bool
        nnU-Net's.
    """

    plans: PlansOfScans
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    channels: int
    by_windows: bool
    verbose: bool = False

    def __call__(self, target: Target, previous: Path | None) -> Prepared:
        """Preprocess a scan and its companions.

        Parameters
        ----------
        target : Target
            The scan.
        previous : Path, optional
            The segmentation of the previous stage of a cascade.

        Raises
        ------
        InputError
            If a file cannot be used.
        """
        self._check_resampled(target.scan)
        sources: dict[int, Path | Resampled] = dict(target.scan.channels)
        if not self.by_windows:
            for scan, place in target.companions:
                sources |= {channel: Resampled(file, place.transform) for channel, file in scan.channels.items()}
            return Prepared(*self._run(sources, previous))
        data, properties = self._run(sources, previous)
        order = self.plans.transpose_forward
        companions = []
        for scan, place in target.companions:
            self._check_resampled(scan)
            there, there_properties = self._run(dict(scan.channels), None)
            to_mm = preprocessed_affine(properties, data.shape[1:], order)
            there_to_mm = preprocessed_affine(there_properties, there.shape[1:], order)
            channels = tuple(scan.channels)
            companions.append((channels, there[list(channels)], place.index_map(to_mm, there_to_mm)))
        return Prepared(data, properties, tuple(companions))

    def _check_resampled(self, scan: Scan) -> None:
        if scan.grid is not None and len(scan.grid.size) == 3:
            size, spacing = scan.grid.size[::-1], scan.grid.spacing[::-1]
            check_resampled(scan.file, (self.channels, *size), spacing, self.plans, self.configuration)

    def _run(self, sources: dict[int, Path | Resampled], previous: Path | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a preprocessed case and its properties, as nnU-Net's own worker makes them."""
        if previous is not None and not previous.is_file():
            raise InputError(f"There is no {previous}, the segmentation of the previous stage; predict it first.")
        files = [sources.get(channel) for channel in range(self.channels)]
        done: queue.Queue[dict[str, Any]] = queue.Queue()
        preprocess_fromfiles_save_to_queue(
            [files], [None if previous is None else str(previous)], None, self.plans, self.dataset_json,
            self.configuration, done, threading.Event(), threading.Event(), self.verbose,
        )  # fmt: skip
        item = done.get()
        return item["data"].numpy(), item["data_properties"]
