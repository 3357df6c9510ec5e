"""Batches for classifiers: a crop of each case, resized. The labels are not in the batch, but follow from its keys.

Cropping, sampling and augmentation are those of nnU-Net's loader; what differs is the box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.dataloading.structure_box import Box, StructureBox


def balanced_probabilities(cases: Sequence[str], labels: Mapping[str, int]) -> np.ndarray:
    """Return the probability of each case in a draw in which all classes are equally likely."""
    classes = np.array([labels[case] for case in cases])
    weights = 1 / np.bincount(classes)[classes]
    return weights / weights.sum()


class ClassificationLoader(nnUNetDataLoader):
    """nnU-Net's loader with the box of a case in the place of a random patch.

    Parameters
    ----------
    data : nnUNetBaseDataset
        Preprocessed cases.
    batch_size : int
        Samples of a batch.
    size : sequence of int
        What the transforms resize a crop to, in voxels.
    label_manager : LabelManager
        nnU-Net's.
    box : StructureBox
        Finds the box.
    transforms : BasicTransform
        Begin with `rl_nnunet.dataloading.resize.Resize`.
    sampling_probabilities : sequence of float, optional
        Of the cases; equal where not given.
    """

    def __init__(
        self,
        data: nnUNetBaseDataset,
        batch_size: int,
        size: Sequence[int],
        label_manager: LabelManager,
        box: StructureBox,
        transforms: Any,
        sampling_probabilities: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            data, batch_size, size, size, label_manager, sampling_probabilities=sampling_probabilities,
            transforms=transforms,
        )  # fmt: skip
        self.box = box

    def get_bbox(
        self,
        data_shape: np.ndarray,
        force_fg: bool,
        class_locations: dict | None,
        overwrite_class: int | tuple[int, ...] | None = None,
        verbose: bool = False,
    ) -> Box:
        """Return the box of the case."""
        return self.box.of_locations(data_shape, class_locations or {})


class EveryCaseLoader(ClassificationLoader):
    """Goes over the cases in order, again and again; the last batch of each round may be smaller.

    Parameters are those of `ClassificationLoader`.
    """

    def __init__(self, data: nnUNetBaseDataset, batch_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(data, batch_size, *args, **kwargs)
        cases = list(data.identifiers)
        self.batches = [cases[start : start + batch_size] for start in range(0, len(cases), batch_size)]
        self.position = 0

    def get_indices(self) -> list[str]:
        """Return the cases of the next batch; nnU-Net's loader allocates as much as `batch_size` says."""
        cases = self.batches[self.position]
        self.position = (self.position + 1) % len(self.batches)
        self.batch_size = len(cases)
        return cases
