"""Batches of unpaired data: each sample is one case per branch, cropped and augmented independently.

Where a sample is forced to contain foreground, its branches are centered on the same class: what is aligned is then
the same anatomy, although the patients differ. Other samples need not show the same, and the batch says which do
(`matched`). Mirroring is the one part of the augmentation that all branches of a sample share: no rotation undoes the
mirroring of one of them. Cropping, padding, oversampling and augmentation are nnU-Net's own
loader, one per branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import blosc2
import numpy as np
from batchgenerators.dataloading.data_loader import DataLoader
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.dataloading.shared_mirroring import SharedMirroring
from rl_nnunet.errors import InputError
from rl_nnunet.presence.cases import branches_of_case
from rl_nnunet.targets import join_targets


class BranchChannels:
    """A view of an array (channels, *spatial) that has only the channels of one branch; nothing is read before use."""

    def __init__(self, array: np.ndarray | blosc2.NDArray, channels: Sequence[int]) -> None:
        self.array = array
        self.channels = list(channels)
        self.shape = (len(self.channels), *array.shape[1:])
        self.dtype = array.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, item: Any) -> np.ndarray:
        """Read a region of the branch's channels."""
        item = item if isinstance(item, tuple) else (item,)
        regions = [self.array[(slice(c, c + 1), *item[1:])] for c in self.channels]
        return np.concatenate(regions)[item[0]]


class BranchDataset:
    """The cases of a data set that have a branch, reduced to the branch's channels; what nnU-Net's loader reads."""

    def __init__(self, dataset: nnUNetBaseDataset, branch: Branch, identifiers: Sequence[str]) -> None:
        self.dataset = dataset
        self.branch = branch
        self.identifiers = list(identifiers)

    def load_case(self, identifier: str) -> tuple[BranchChannels, Any, Any, dict]:
        """Load a case as nnU-Net's data sets do, with the branch's channels only."""
        data, segmentation, previous, properties = self.dataset.load_case(identifier)
        return BranchChannels(data, self.branch.channels), segmentation, previous, properties


def cases_per_branch(dataset: nnUNetBaseDataset, layout: BranchLayout) -> dict[str, list[str]]:
    """Return, per branch, the cases of a preprocessed data set that have it."""
    cases: dict[str, list[str]] = {name: [] for name in layout.names}
    for identifier in dataset.identifiers:
        for name in branches_of_case(dataset.load_case(identifier)[0], layout):
            cases[name].append(identifier)
    return cases


class ClassMatchedLoader(nnUNetDataLoader):
    """nnU-Net's loader with the forced classes of a batch given from outside.

    Attributes
    ----------
    forced_classes : sequence
        Per sample of the next batch, the class that it is centered on if it has to contain foreground.
    follows : list of bool
        Per sample of the last batch, whether it was.
    """

    forced_classes: Sequence[Any] = ()
    follows: Sequence[bool] = ()

    def generate_train_batch(self) -> dict[str, Any]:
        """Generate a batch; where sample j has to contain foreground, it is centered on ``forced_classes[j]``."""
        self._class_of_next_sample = iter(self.forced_classes)
        self.follows = []
        return super().generate_train_batch()

    def get_bbox(
        self,
        data_shape: np.ndarray,
        force_fg: bool,
        class_locations: dict | None,
        overwrite_class: int | tuple[int, ...] | None = None,
        verbose: bool = False,
    ) -> tuple[list[int], list[int]]:
        """Return nnU-Net's bounding box around the given class; around any class where the case lacks it.

        nnU-Net's loader asks once per sample, in order.
        """
        wanted = next(self._class_of_next_sample)
        is_there = class_locations is not None and len(class_locations.get(wanted, ())) > 0
        self.follows.append(force_fg and is_there)
        if force_fg and class_locations is not None:
            overwrite_class = wanted if is_there else None
        return super().get_bbox(data_shape, force_fg, class_locations, overwrite_class, verbose)


class UnpairedDataLoader(DataLoader):
    """Compose batches from one `ClassMatchedLoader` per branch.

    Parameters
    ----------
    dataset : nnUNetBaseDataset
        Preprocessed cases, each with at least one branch.
    layout : BranchLayout
        The branches.
    label_manager : LabelManager
        nnU-Net's; its foreground classes (or regions) are the classes that patches are centered on.
    transforms : callable
        Maps the channel indices of a branch to the augmentation of its samples.
    matched_share : float
        Of the samples, the share whose branches are centered on one class where foreground is forced, in [0, 1]; the
        branches of the others draw a class each.
    needs_every_branch : bool
        False to leave a branch without cases blank, as validation can; its ``keys`` are then empty.
    **loader_options
        Passed to nnU-Net's loader: ``batch_size``, ``patch_size``, ``final_patch_size``,
        ``oversample_foreground_percent``, ``probabilistic_oversampling``.

    Raises
    ------
    InputError
        If a branch that is needed has no case, or none has.
    """

    loader_class: type[ClassMatchedLoader] = ClassMatchedLoader

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        layout: BranchLayout,
        label_manager: LabelManager,
        transforms: Callable[[Sequence[int]], Any],
        matched_share: float = 1.0,
        needs_every_branch: bool = True,
        **loader_options: Any,
    ) -> None:
        super().__init__(dataset, loader_options["batch_size"], 1, None, True, False, True)
        self.layout = layout
        self.matched_share = matched_share
        self.classes = (
            label_manager.foreground_regions if label_manager.has_regions else label_manager.foreground_labels
        )
        self.cases = cases = cases_per_branch(dataset, layout)
        self.missing = [name for name in layout.names if not cases[name]]
        if self.missing and (needs_every_branch or len(self.missing) == len(layout.names)):
            raise InputError(
                f"None of the {len(dataset.identifiers)} {'training' if needs_every_branch else 'validation'} cases of "
                f"this fold has the branch {self.missing[0]}; give splits_final.json folds with cases of every branch."
            )
        augmentations = {branch.name: transforms(branch.channels) for branch in layout.branches if cases[branch.name]}
        self.mirroring = SharedMirroring(list(augmentations.values()))
        self.loaders = {
            branch.name: self.loader_class(
                BranchDataset(dataset, branch, cases[branch.name]),
                label_manager=label_manager,
                transforms=augmentations[branch.name],
                **loader_options,
            )
            for branch in layout.branches
            if cases[branch.name]
        }

    def generate_train_batch(self) -> dict[str, Any]:
        """Return ``data`` (samples, channels, *spatial), ``target``, ``keys`` and ``matched``.

        The targets of the branches lie behind each other in the channel axis, as one tensor or, with deep supervision,
        one per scale. ``keys`` holds per branch the case of each sample. ``matched`` is a list of booleans: whether all
        branches of a sample are centered on one class.
        """
        chosen = self._draw_classes()
        self.mirroring.start_batch()
        batches = self._generate_branches(chosen)
        channels = sum(len(branch.channels) for branch in self.layout.branches)
        example = next(iter(batches.values()))
        data = example["data"].new_zeros((self.batch_size, channels, *example["data"].shape[2:]))
        targets, keys = [], {}
        for branch in self.layout.branches:
            batch = batches.get(branch.name)
            if batch is not None:
                data[:, list(branch.channels)] = batch["data"]
            # Nobody looks at the target of a branch that is not there: any of the right shape will do.
            targets.append((batch or example)["target"])
            keys[branch.name] = list(batch["keys"]) if batch else []
        matched = [self._is_matched(sample, list(self.loaders), chosen) for sample in range(self.batch_size)]
        return {"data": data, "target": join_targets(targets), "keys": keys, "matched": matched}

    def _generate_branches(self, chosen: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Return a batch of each branch, given the classes of its samples."""
        return {name: self._generate_branch(name, chosen) for name in self.loaders}

    def _generate_branch(self, name: str, chosen: Mapping[str, np.ndarray]) -> dict[str, Any]:
        loader = self.loaders[name]
        loader.forced_classes = [self.classes[i] for i in chosen[name]]
        return loader.generate_train_batch()

    def _is_matched(self, sample: int, names: Sequence[str], chosen: Mapping[str, np.ndarray]) -> bool:
        """Tell whether some branches of a sample are centered on one class."""
        follow = all(self.loaders[name].follows[sample] for name in names)
        return follow and len({int(chosen[name][sample]) for name in names}) == 1

    def _draw_classes(self) -> dict[str, np.ndarray]:
        """Return, per branch, the index of the class of each sample."""
        # The global generator, as in nnU-Net's loader, whose background processes seed it each on its own.
        common, *own = np.random.randint(len(self.classes), size=(1 + len(self.loaders), self.batch_size))  # noqa: NPY002
        is_matched = np.random.random(self.batch_size) < self.matched_share  # noqa: NPY002
        return {name: np.where(is_matched, common, one) for name, one in zip(self.loaders, own, strict=True)}
