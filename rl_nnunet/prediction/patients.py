"""What is to be predicted of each case: its scans, each on a grid of its own, and which other scans help with which.

Channels on one grid are one scan. Where all channels of a case are on one grid, the case is what nnU-Net takes, and has
one segmentation. Otherwise, each scan has its own, with the others as its companions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_nnunet.errors import InputError
from rl_nnunet.grids import Grid, Pair, pair, read_grid
from rl_nnunet.prediction.input_files import CaseFiles


@dataclass(frozen=True)
class Scan:
    """Channels of a case on one grid.

    Parameters
    ----------
    name : str
        Names of the branches that it has, joined by ``+``.
    channels : dict of int to Path
        File, or folder of a DICOM series, of each channel.
    grid : Grid or None
        None where the model's reader does not tell.
    """

    name: str
    channels: Mapping[int, Path]
    grid: Grid | None

    @property
    def file(self) -> Path:
        """One of the files."""
        return next(iter(self.channels.values()))


@dataclass(frozen=True)
class Target:
    """A scan to segment, with its companions, each with its place; and where the segmentation goes, without ending."""

    scan: Scan
    companions: tuple[tuple[Scan, Pair], ...]
    output: Path


@dataclass(frozen=True)
class Patient:
    """A case, and what is to be segmented of it.

    Parameters
    ----------
    name : str
        The case.
    targets : tuple of Target
        Several if its scans are on several grids.
    error : str
        The sentence if the case cannot be used.
    """

    name: str
    targets: tuple[Target, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Grouping:
    """How channels make up scans.

    Parameters
    ----------
    groups : dict of str to sequence of int
        What must not be torn apart: branches, for a network that knows them, and channels otherwise.
    pairing : str
        See `pair`; or "none" for scans that do not help each other.
    knows_grids : bool
        Whether the model's reader tells where a scan lies; all channels are on one grid otherwise.
    """

    groups: Mapping[str, Sequence[int]]
    pairing: str
    knows_grids: bool = True

    def scans_of(self, case: CaseFiles) -> list[Scan]:
        """Return the scans of a case.

        Raises
        ------
        InputError
            If a header cannot be read, a branch is on several grids, or grids cannot be told apart.
        """
        if not self.knows_grids:
            folder = next((path for path in case.channels.values() if path.is_dir()), None)
            if folder is not None:
                raise InputError(
                    f"{folder} is a folder, but the model reads no DICOM; convert it to the model's format."
                )
            return [self._scan(dict(case.channels), None)]
        found: list[tuple[Grid, dict[int, Path]]] = []
        for channel, path in sorted(case.channels.items()):
            grid = read_grid(path)
            _, channels = next((item for item in found if grid.is_same_as(item[0])), (grid, {}))
            if not channels:
                found.append((grid, channels))
            channels[channel] = path
        scans = [self._scan(channels, grid) for grid, channels in found]
        if len(scans) > 1:
            self._check(scans)
        return scans

    def _scan(self, channels: dict[int, Path], grid: Grid | None) -> Scan:
        names = [name for name, group in self.groups.items() if not channels.keys().isdisjoint(group)]
        return Scan("+".join(names).replace("/", "_"), channels, grid)

    def _check(self, scans: Sequence[Scan]) -> None:
        flat = next((scan for scan in scans if len(scan.grid.size) != 3), None)
        if flat is not None:
            raise InputError(f"{flat.file} is not 3D, and not on the grid of the other channels; resample it.")
        for name, group in self.groups.items():
            files = [scan.channels[channel] for channel in group for scan in scans if channel in scan.channels]
            if sum(not scan.channels.keys().isdisjoint(group) for scan in scans) > 1:
                raise InputError(
                    f"{files[0]} and {files[1]} belong to the branch {name}, but are on different grids; resample one "
                    "to the grid of the other."
                )

    def companions(self, scan: Scan, scans: Sequence[Scan]) -> tuple[tuple[Scan, Pair], ...]:
        """Return the other scans, each with its place.

        Raises
        ------
        InputError
            If one cannot be placed.
        """
        if self.pairing == "none":
            return ()
        others = [other for other in scans if other is not scan]
        return tuple((other, pair(scan.grid, other.grid, self.pairing, (scan.file, other.file))) for other in others)


def plan_patients(cases: Sequence[CaseFiles], grouping: Grouping, output: Path) -> list[Patient]:
    """Return what is to be segmented, where.

    If a case has several grids, every segmentation of the run goes into a folder that is called like its scan, so that
    each folder can be evaluated by itself. A case that cannot be used comes back with its sentence.
    """
    scans, errors = {}, {}
    for case in cases:
        try:
            if case.error:
                raise InputError(case.error)
            scans[case.name] = grouping.scans_of(case)
        except InputError as error:
            errors[case.name] = str(error)
    apart = any(len(of_case) > 1 for of_case in scans.values())
    patients = []
    for case in cases:
        targets, error = [], errors.get(case.name, "")
        try:
            for scan in scans.get(case.name, ()):
                place = output / scan.name if apart else output
                targets.append(Target(scan, grouping.companions(scan, scans[case.name]), place / case.name))
        except InputError as reason:
            error = str(reason)
        patients.append(Patient(case.name, () if error else tuple(targets), error))
    return patients
