"""Batches of patients with several scans, each on its own grid.

In each batch one branch leads, drawn anew, so that no branch's cases are favored. In a planned share of the samples,
the other branches follow: where the leader's patient has a scan of theirs, they take it, centered on the place of the
leader's crop. These samples are `matched`, foreground or not, and are mirrored, turned and stretched alike. All others
are those of unpaired data. Where the place is outside of the companion, as can be by coordinates, the companion is
cropped as any other case.

Only branches that show one place see each other (`together`), as a prediction gives a scan its own patient's companion
or none. Beside another patient's in every second sample, a lone scan was segmented worse, and one with a companion no
better (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_nnunet.dataloading.companion_places import CompanionPlaces
from rl_nnunet.dataloading.shared_spatial import share_spatial
from rl_nnunet.dataloading.unpaired_loader import ClassMatchedLoader, UnpairedDataLoader
from rl_nnunet.windows import Window


class Given(NamedTuple):
    """What is given of a sample: its case, and its window; None where they are drawn."""

    case: str | None = None
    window: Window | None = None


class PlacedCases:
    """The cases of a loader, of which it crops the windows that it is given, between voxels where they lie there."""

    def __init__(self, dataset: Any, loader: PlacedLoader) -> None:
        self.dataset, self.loader, self.identifiers = dataset, loader, dataset.identifiers

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """Load a case as nnU-Net's data sets do, for the next sample."""
        data, labels, *rest = self.dataset.load_case(identifier)
        window = self.loader.given[len(self.loader.windows)].window
        if window is not None:
            data, labels = window.shown_by(data), window.shown_by_labels(labels)
        return (data, labels, *rest)


class PlacedLoader(ClassMatchedLoader):
    """A branch's loader with the cases and windows of some samples given from outside.

    Attributes
    ----------
    given : sequence of Given
        Per sample of the next batch.
    windows : list of array
        The first index of each window of the last batch.
    *arguments, **options
        See `ClassMatchedLoader`.
    """

    given: Sequence[Given] = ()
    windows: Sequence[np.ndarray] = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._data = PlacedCases(self._data, self)

    def get_indices(self) -> list[str]:
        """Return the cases of a batch."""
        return [given.case or drawn for given, drawn in zip(self.given, super().get_indices(), strict=True)]

    def generate_train_batch(self) -> dict[str, Any]:
        """Generate a batch with what is given."""
        self.windows = []
        return super().generate_train_batch()

    def get_bbox(self, *arguments: Any, **options: Any) -> tuple[list[int], list[int]]:
        """Return the given window of the next sample, or else the bounding box of `ClassMatchedLoader`."""
        lower, upper = super().get_bbox(*arguments, **options)
        window = self.given[len(self.windows)].window
        if window is not None:
            lower, upper = window.start.tolist(), (window.start + self.patch_size).tolist()
        self.windows.append(np.array(lower))
        return lower, upper


class UnregisteredDataLoader(UnpairedDataLoader):
    """Compose batches in which a share of the samples show one place of one patient in all branches.

    Parameters
    ----------
    patients : mapping of str to str
        The patient of each case.
    placement : {"auto", "physical", "relative"}
        How a place of one scan is found in another one; see `rl_nnunet.plans.companions.CompanionConfig`.
    transpose_forward, spacing : sequence
        Of the plans and their configuration.
    same_patient : float
        The share, in [0, 1], among the samples whose patient has several scans.
    *arguments, **options
        See `UnpairedDataLoader`.

    Raises
    ------
    InputError
        If a branch has no case, or it is not known where a scan lies.
    """

    loader_class = PlacedLoader

    def __init__(
        self,
        *arguments: Any,
        patients: Mapping[str, str],
        placement: str,
        transpose_forward: Sequence[int],
        spacing: Sequence[float],
        same_patient: float,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.same_patient, self.patients = same_patient, patients
        self._leader = ""  # of the last batch
        self.places = CompanionPlaces(self._data, self.cases, patients, placement, transpose_forward, spacing)
        self.spatial = {name: share_spatial(loader.transforms) for name, loader in self.loaders.items()}

    def describe(self) -> str:
        """Return a sentence for the log: who has several scans, and how places are found."""
        several, everyone = len(self.places.patients), len({self.patients[case] for case in self._data.identifiers})
        if not several:
            return (
                "NOTE: No training patient of this fold has scans of several branches: it trains as on unpaired data."
            )
        how = ", ".join(f"{description} ({count})" for description, count in self.places.descriptions.items())
        return (
            f"{several} of {everyone} training patients have scans of several branches. In {self.same_patient:.0%} of "
            f"their samples, the branches show one place of one patient; places are found {how}."
        )

    def generate_train_batch(self) -> dict[str, Any]:
        """Return what `UnpairedDataLoader` returns, and ``together``: per sample, the branches that see each other.

        Without any patient who has several scans, and where their share is 0, all do, as in unpaired data.
        """
        batch = super().generate_train_batch()
        if self.places.patients and self.same_patient > 0:
            batch["together"] = [self._together(sample) for sample in range(self.batch_size)]
        return batch

    def _together(self, sample: int) -> list[int]:
        """Return the indices of the leader and of the branches that are at its place; none if it is alone."""
        led = [name for name, loader in self.loaders.items() if loader.given[sample].window is not None]
        return [i for i, name in enumerate(self.layout.names) if name in (self._leader, *led)] if led else []

    def _generate_branches(self, chosen: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Generate the leader's batch, then those of the branches that follow."""
        followers = list(self.loaders)
        leader = followers.pop(np.random.randint(len(followers)))  # noqa: NPY002 - as in nnU-Net's loader
        self._leader = leader
        is_same = np.random.random(self.batch_size) < self.same_patient  # noqa: NPY002
        batches = {leader: self._generate_one(leader, chosen, [Given()] * self.batch_size)}
        led = list(zip(is_same, batches[leader]["keys"], self.loaders[leader].windows, strict=True))
        for name in followers:
            given = [self._companion(name, case, window) if same else Given() for same, case, window in led]
            batches[name] = self._generate_one(name, chosen, given, leader)
        return batches

    def _generate_one(
        self, name: str, chosen: Mapping[str, np.ndarray], given: Sequence[Given], leader: str | None = None
    ) -> dict[str, Any]:
        self.loaders[name].given = given
        repeats = [sample.window is not None for sample in given]
        for position, spatial in enumerate(self.spatial[name]):
            spatial.start_batch(self.spatial[leader][position] if leader else None, repeats)
        return self._generate_branch(name, chosen)

    def _companion(self, branch: str, case: str, window: np.ndarray) -> Given:
        """Draw a scan of the patient of a case, and find the place of a window; nothing if there is none."""
        companions = self.places.companions(case, branch)
        if not companions:
            return Given()
        companion = companions[np.random.randint(len(companions))]  # noqa: NPY002
        return Given(companion, self.places.window(case, companion, window, np.array(self.loaders[branch].patch_size)))

    def _is_matched(self, sample: int, names: Sequence[str], chosen: Mapping[str, np.ndarray]) -> bool:
        """Tell whether a sample shows one place, or else one class; branches at the leader's place are like it."""
        rest = [name for name in names if self.loaders[name].given[sample].window is None]
        return len(rest) == 1 < len(names) or super()._is_matched(sample, rest, chosen)
