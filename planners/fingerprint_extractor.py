"""A fingerprint extractor whose channel statistics come only from the cases that have the channel.

A case that lacks a branch carries an all-zero image in its place. nnU-Net's extractor takes these zeros for
intensities, so that half a data set of MRI moves the statistics of its CT channel, and CTNormalization with them.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tqdm import tqdm

from rl_nnunet.branches import DATASET_JSON_KEY, channel_indices, layout_from_dataset_json
from rl_nnunet.errors import InputError
from rl_nnunet.files import new_file
from rl_nnunet.planners.absent_channels import (
    cases_per_branch,
    cases_per_channel,
    check_pairing,
    check_presence,
    say_constants,
)
from rl_nnunet.planners.case_examination import CaseFindings, examine_case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

    from rl_nnunet.branches import BranchLayout

MARK = "rl_nnunet"
STATISTICS = "foreground_intensity_properties_per_channel"


class PresentChannelsFingerprintExtractor(DatasetFingerprintExtractor):
    """Take the foreground statistics of a channel only from the cases that have it.

    Everything else in the fingerprint (shapes, spacings) comes from all cases, as in nnU-Net. The fingerprint says
    under ``rl_nnunet`` which cases have each branch, how the channels were grouped, and the size and modification time
    of every file that it is from. These two cost nothing to compare, where a checksum would read the whole data set; a
    copy whose files are newer costs one more extraction.
    """

    def run(self, overwrite_existing: bool = False) -> dict[str, Any]:
        """Extract the fingerprint, or load the one that is there.

        Parameters
        ----------
        overwrite_existing : bool
            Extract it anew in any case. Without this, an existing fingerprint is taken if this class made it from the
            files that are there now.

        Returns
        -------
        dict
            The content of ``dataset_fingerprint.json``.

        Raises
        ------
        InputError
            If nnU-Net could not work with the images, if no case has one of the branches, or if the data set counts as
            paired and every case has one branch only.
        """
        source = self._describe_source()
        if self._fingerprint_file.is_file() and not overwrite_existing:
            fingerprint = self._load_ours()
            reason = self._why_anew(fingerprint, source)
            if fingerprint is not None and reason is None:
                self._check_pairing(fingerprint[MARK]["cases_per_branch"])
                return fingerprint
            print(f"Notice: {reason} Extracting it anew.")
        # Before anything that can be killed: what is there now must not be taken for the outcome of this run.
        self._fingerprint_file.unlink(missing_ok=True)
        # More workers than cases would only cost their start, once per pass over the data.
        self.num_processes = max(1, min(self.num_processes, len(self.dataset)))
        findings = self._examine_cases()
        say_constants(self._channel_names, findings)
        check_presence(self._channel_names, self._layout, findings, self.input_folder)
        having = cases_per_channel(findings)
        branches = cases_per_branch(self._layout, having)
        self._check_pairing(branches)
        fingerprint = self._run_on(list(self.dataset))
        fingerprint[STATISTICS].update(self._statistics_of_present(having))
        fingerprint[MARK] = {"cases_per_branch": branches, **source}
        self._save(fingerprint)
        return fingerprint

    @property
    def _fingerprint_file(self) -> Path:
        return Path(nnUNet_preprocessed) / self.dataset_name / "dataset_fingerprint.json"

    @property
    def _layout(self) -> BranchLayout:
        return layout_from_dataset_json(self.dataset_json)

    @property
    def _channel_names(self) -> list[str]:
        return list(channel_indices(self.dataset_json))

    def _load(self) -> dict[str, Any]:
        return json.loads(self._fingerprint_file.read_text())

    def _load_ours(self) -> dict[str, Any] | None:
        """Return the fingerprint that is there, or None if it is nnU-Net's or half a file, left by a killed run."""
        try:
            fingerprint = self._load()
        except ValueError:
            return None
        return fingerprint if isinstance(fingerprint, dict) and isinstance(fingerprint.get(MARK), dict) else None

    def _describe_source(self) -> dict[str, Any]:
        """Return what a fingerprint must have been made from to be that of the data as they are."""
        layout = self._layout
        files = {}
        for case, paths in self.dataset.items():
            states = [(path, os.stat(path)) for path in (*paths["images"], paths["label"])]
            files[str(case)] = [f"{Path(path).name} {state.st_size} {state.st_mtime_ns}" for path, state in states]
        return {"branches": dict(zip(layout.names, map(list, layout.channels), strict=True)), "files": files}

    def _why_anew(self, fingerprint: dict[str, Any] | None, source: dict[str, Any]) -> str | None:
        """Return the sentence that says why an existing fingerprint cannot be taken; None if it can."""
        if fingerprint is None or "files" not in fingerprint[MARK]:
            return (
                f"{self._fingerprint_file} was not made by {type(self).__name__}, or by an old one: its statistics may "
                "count absent channels as zeros."
            )
        before, now = fingerprint[MARK]["files"], source["files"]
        changes = {
            "new": sorted(now.keys() - before.keys()),
            "gone": sorted(before.keys() - now.keys()),
            "changed": sorted(case for case in now.keys() & before.keys() if now[case] != before[case]),
        }
        said = [f"{len(cases)} {word} (first {cases[0]})" for word, cases in changes.items() if cases]
        if said:
            return f"the cases of {self.dataset_name} are not those of its fingerprint: {', '.join(said)}."
        if fingerprint[MARK].get("branches") != source["branches"]:
            return f"the branches of {self.dataset_name} are not those of its fingerprint."
        return None

    def _check_pairing(self, cases: dict[str, list[str]]) -> None:
        described = DATASET_JSON_KEY in self.dataset_json
        identifier = convert_dataset_name_to_id(self.dataset_name)
        check_pairing(self._layout, cases, self._channel_names, identifier, described)

    def _save(self, fingerprint: dict[str, Any]) -> None:
        """Write the fingerprint in one step: whoever reads the file sees all of it or none."""
        with new_file(self._fingerprint_file) as file:
            file.write_text(json.dumps(fingerprint, indent=4, sort_keys=True))

    def _statistics_of_present(self, having: list[list[str]]) -> dict[str, Any]:
        """Return the statistics of the channels that some cases lack, in one pass per group of cases."""
        channels_by_cases = defaultdict(list)
        for channel, cases in enumerate(having):
            if len(cases) < len(self.dataset):
                channels_by_cases[tuple(cases)].append(str(channel))
        found = {}
        for cases, channels in channels_by_cases.items():
            statistics = self._run_on(cases)[STATISTICS]
            found.update({channel: statistics[channel] for channel in channels})
        return found

    def _run_on(self, cases: Iterable[str]) -> dict[str, Any]:
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

    def _examine_cases(self) -> dict[str, CaseFindings]:
        """Read all images and labels.

        nnU-Net draws 10⁸ voxels with replacement, however few there are: for a small data set that is most of the
        time spent. It never gets to draw more than there are here.
        """
        labels = LabelManager(self.dataset_json["labels"], self.dataset_json.get("regions_class_order"))
        known = {*map(int, labels.all_labels), *([labels.ignore_label] if labels.has_ignore_label else ())}
        reader = self._reader()
        # Spawned like nnU-Net's own workers: a fork of a process that has used torch's threads may hang. A worker that
        # the system kills ends this pool with an error, where multiprocessing.Pool would wait for it forever.
        with ProcessPoolExecutor(self.num_processes, multiprocessing.get_context("spawn")) as pool:
            jobs = [
                pool.submit(examine_case, case["images"], case["label"], known, reader)
                for case in self.dataset.values()
            ]
            progress = tqdm(jobs, desc="Looking for absent branches", disable=not self.show_progress_bar)
            try:
                found = [job.result() for job in progress]
            except BrokenProcessPool:
                raise InputError(
                    "A worker process was killed, most likely because the memory ran out; try again with a smaller "
                    "-npfp."
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)
        voxels = sum(case.voxels for case in found)
        self.num_foreground_voxels_for_intensitystats = min(self.num_foreground_voxels_for_intensitystats, voxels)
        return {str(case): findings for case, findings in zip(self.dataset, found, strict=True)}

    def _reader(self) -> type[BaseReaderWriter]:
        """Return the reader that nnU-Net will take, which it finds by trying the first image."""
        first_image = next(iter(self.dataset.values()))["images"][0]
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # tracebacks of those that cannot read it
                return determine_reader_writer_from_dataset_json(self.dataset_json, first_image, verbose=False)
        except RuntimeError:
            raise InputError(f"{first_image} is not a readable image; fetch it again, or remove the case.") from None
