"""nnU-Net's kind of augmenter around a loader of ours."""

from __future__ import annotations

from typing import Any

from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA


def start_augmenter(loader: DataLoader, processes: int, *, pin_memory: bool) -> Any:
    """Start a loader in some background processes, or in this one where nnU-Net is told to (nnUNet_n_proc_DA=0).

    Parameters
    ----------
    loader : DataLoader
        Generates batches without an end.
    processes : int
        How many; at least one is started.
    pin_memory : bool
        For copies to a GPU.
    """
    if get_allowed_n_proc_DA() == 0:
        augmenter = SingleThreadedAugmenter(loader, None)
    else:
        augmenter = NonDetMultiThreadedAugmenter(
            loader,
            None,
            max(1, processes),
            num_cached=max(3, processes // 2),
            pin_memory=pin_memory,
            wait_time=0.002,
        )
    next(augmenter)  # starts the background processes
    return augmenter
