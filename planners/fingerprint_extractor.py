"""A fingerprint extractor whose channel statistics come only from the cases that have the channel.

A case that lacks a branch carries an all-zero image in its place. nnU-Net's extractor takes these zeros for
intensities, so that half a data set of MRI moves the statistics of its CT channel, and CTNormalization with them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.paths import nnUNet_preprocessed
from tqdm import tqdm

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.errors import InputError

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

MARK = "rl_nnunet"
STATISTICS = "foreground_intensity_properties_per_channel"


def _examine_case(
    images: list[str], branches: dict[str, tuple[int, ...]], reader: type[BaseReaderWriter]
) -> tuple[set[str], int]:
    """Return the branches of which some channel has a nonzero voxel, and the number of voxels of a channel."""
    data, _ = reader().read_images(images)
    return {name for name, channels in branches.items() if data[list(channels)].any()}, data[0].size


class PresentChannelsFingerprintExtractor(DatasetFingerprintExtractor):
    """Take the foreground statistics of a channel only from the cases in which its branch is present.

    Everything else in the fingerprint (shapes, spacings) comes from all cases, as in nnU-Net. The fingerprint says
    under ``rl_nnunet`` which cases the statistics of each branch are from; one that does not is not taken for ours.
    """

    def run(self, overwrite_existing: bool = False) -> dict[str, Any]:
        """Extract the fingerprint, or load the one that is there.

        Parameters
        ----------
        overwrite_existing : bool
            Extract it anew in any case. Without this, an existing fingerprint is taken if this class made it.

        Returns
        -------
        dict
            The content of ``dataset_fingerprint.json``.

        Raises
        ------
        InputError
            If no case has one of the branches.
        """
        if self._fingerprint_file.is_file() and not overwrite_existing:
            fingerprint = self._load_ours()
            if fingerprint is not None:
                return fingerprint
            print(
                f"{self._fingerprint_file} was not made by {type(self).__name__}: its statistics may count absent "
                "channels as zeros. Extracting it anew."
            )
        # Before anything that can be killed: what is there now must not be taken for the outcome of this run.
        self._fingerprint_file.unlink(missing_ok=True)
        # More workers than cases would only cost their start, once per pass over the data.
        self.num_processes = max(1, min(self.num_processes, len(self.dataset)))
        cases_per_branch = self._examine_cases()
        fingerprint = self._run_on(list(self.dataset))
        for branch in layout_from_dataset_json(self.dataset_json).branches:
            cases = cases_per_branch[branch.name]
            if len(cases) < len(self.dataset):
                statistics = self._run_on(cases)[STATISTICS]
                fingerprint[STATISTICS].update({str(c): statistics[str(c)] for c in branch.channels})
        fingerprint[MARK] = {"cases_per_branch": cases_per_branch}
        self._save(fingerprint)
        return fingerprint

    @property
    def _fingerprint_file(self) -> Path:
        return Path(nnUNet_preprocessed) / self.dataset_name / "dataset_fingerprint.json"

    def _load(self) -> dict[str, Any]:
        return json.loads(self._fingerprint_file.read_text())

    def _load_ours(self) -> dict[str, Any] | None:
        """Return the fingerprint that is there, or None if it is nnU-Net's or half a file, left by a killed run."""
        try:
            fingerprint = self._load()
        except json.JSONDecodeError:
            return None
        return fingerprint if MARK in fingerprint else None

    def _save(self, fingerprint: dict[str, Any]) -> None:
        """Write the fingerprint in one step: whoever reads the file sees all of it or none."""
        unfinished = self._fingerprint_file.with_suffix(f".json.{os.getpid()}")
        unfinished.write_text(json.dumps(fingerprint, indent=4, sort_keys=True))
        unfinished.replace(self._fingerprint_file)

    def _run_on(self, cases: list[str]) -> dict[str, Any]:
        """Return nnU-Net's fingerprint of some of the cases.

        nnU-Net writes it to the file of the whole data set; it is taken away from there, so that a run that is killed
        between two passes leaves no fingerprint of half the cases behind.
        """
        everything = self.dataset
        self.dataset = {case: everything[case] for case in cases}
        try:
            super().run(overwrite_existing=True)
            return self._load()
        finally:
            self.dataset = everything
            self._fingerprint_file.unlink(missing_ok=True)

    def _examine_cases(self) -> dict[str, list[str]]:
        """Read all images and return, per branch, the cases that have it.

        nnU-Net draws 10⁸ voxels with replacement, however few there are: for a small data set that is most of the
        time spent. It never gets to draw more than there are here.
        """
        layout = layout_from_dataset_json(self.dataset_json)
        branches = dict(zip(layout.names, layout.channels, strict=True))
        first_image = next(iter(self.dataset.values()))["images"][0]
        reader = determine_reader_writer_from_dataset_json(self.dataset_json, first_image, verbose=False)
        # Spawned like nnU-Net's own workers: a fork of a process that has used torch's threads may hang. A worker that
        # the system kills ends this pool with an error, where multiprocessing.Pool would wait for it forever.
        with ProcessPoolExecutor(self.num_processes, multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_examine_case, case["images"], branches, reader) for case in self.dataset.values()]
            progress = tqdm(jobs, desc="Looking for absent branches", disable=not self.show_progress_bar)
            present, voxels = zip(*(job.result() for job in progress), strict=True)
        self.num_foreground_voxels_for_intensitystats = min(self.num_foreground_voxels_for_intensitystats, sum(voxels))
        return {name: self._cases_with(name, present) for name in layout.names}

    def _cases_with(self, branch: str, present: tuple[set[str], ...]) -> list[str]:
        cases = [case for case, branches in zip(self.dataset, present, strict=True) if branch in branches]
        if not cases:
            raise InputError(
                f"No case of {self.dataset_name} has the branch {branch}: its images are zero everywhere; take the "
                f"branch out of {self.input_folder}/dataset.json or add cases that have it."
            )
        return cases
