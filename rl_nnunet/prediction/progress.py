"""What a prediction shows: a line a case when its turn comes, a bar over the cases, and a table of them at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from rl_nnunet.command_line import text_table
from rl_nnunet.prediction.agreement import Agreement
from rl_nnunet.prediction.patients import Patient, Target

HEADER = ("case", "scans", "pairing", "seconds", "")
LEFT_OUT, AGREEMENT = "left out", "agreement"
LEAST_SHARE = 0.01
"""Of the windows, that is worth a word."""
KEPT, NOT_REACHED = "there already", "not segmented"


class Progress:
    """Follows the cases of a prediction.

    Parameters
    ----------
    patients : sequence of Patient
        All cases, with those that cannot be used.
    to_do : iterable of Target
        The scans that are to be segmented; the others are there already.
    allow_tqdm : bool
        Whether to show the bar.
    """

    def __init__(self, patients: Sequence[Patient], to_do: Iterable[Target], *, allow_tqdm: bool) -> None:
        self.patients = patients
        self._seconds: dict[Path, float] = {}
        self._failures: dict[Path, str] = {}
        self._left_out: dict[Path, dict[str, float]] = {}
        self._agreements: dict[str, str] = {}
        open_outputs = {target.output for target in to_do}
        self._open = {patient.name: {t.output for t in patient.targets} & open_outputs for patient in patients}
        self._kept = {patient.name for patient in patients if patient.targets and not self._open[patient.name]}
        self._owner = {target.output: patient for patient in patients for target in patient.targets}
        self._said: set[str] = set()
        self._bar = tqdm(
            total=sum(map(bool, self._open.values())), desc="Predicting", unit="case", disable=not allow_tqdm
        )

    def begin(self, target: Target) -> None:
        """Say what is done to the case of a scan, once."""
        patient = self._owner[target.output]
        if patient.name not in self._said:
            self._said.add(patient.name)
            tqdm.write(f"{patient.name}: {'; '.join(map(_described, patient.targets))}")

    def note(self, output: Path, left_out: Mapping[str, float]) -> None:
        """Note in which share of the windows each modality was left out, if there is an agent that leaves some out."""
        if left_out:
            self._left_out[output] = dict(left_out)

    def note_agreement(self, patient: Patient, agreement: Agreement | None) -> None:
        """Note how far the segmentations of a patient's scans agree, if there is anything to compare."""
        if agreement is not None:
            self._agreements[patient.name] = str(agreement)

    def end(self, output: Path, seconds: float) -> None:
        """Note that a segmentation is written, and the seconds that it took."""
        self._seconds[output] = seconds
        self._close(output)

    def fail(self, output: Path, sentence: str) -> None:
        """Note why a segmentation is not written."""
        self._failures[output] = sentence
        self._close(output)

    def _close(self, output: Path) -> None:
        waiting = self._open[self._owner[output].name]
        waiting.discard(output)
        if not waiting:
            self._bar.update()

    def stop(self) -> None:
        """End the bar."""
        self._bar.close()

    def reasons(self) -> dict[str, str]:
        """Return the sentence on each case that is not segmented."""
        found = {}
        for patient in self.patients:
            failed = [self._failures[target.output] for target in patient.targets if target.output in self._failures]
            if patient.error or failed:
                found[patient.name] = patient.error or failed[0]
        return found

    def table(self) -> str:
        """Return a row a case: scans, how they were paired, seconds of work, and what kept it from being segmented.

        Where an agent leaves modalities out, there is a column of those, with the share of the windows; where scans of
        a patient were segmented together, one of how far their segmentations agree.
        """
        reasons = self.reasons()
        rows = []
        for patient in self.patients:
            outputs = [target.output for target in patient.targets]
            seconds = [self._seconds[output] for output in outputs if output in self._seconds]
            note = reasons.get(patient.name) or (KEPT if patient.name in self._kept else "")
            if not note and self._open[patient.name]:
                note = NOT_REACHED
            rows.append(
                (
                    patient.name,
                    ", ".join(target.scan.name for target in patient.targets) or "–",
                    _pairing(patient),
                    f"{sum(seconds):.2f}" if seconds else "–",
                    note,
                )
            )
        table = [HEADER, *rows]
        if self._left_out:
            table = _with_column(table, [LEFT_OUT, *map(self._shares, self.patients)])
        if self._agreements:
            agreements = (self._agreements.get(patient.name, "–") for patient in self.patients)
            table = _with_column(table, [AGREEMENT, *agreements])
        return text_table(table)

    def _shares(self, patient: Patient) -> str:
        """Return which modalities were left out of a case, and in which share of the windows; most first."""
        found: dict[str, float] = {}
        for target in patient.targets:
            for name, share in self._left_out.get(target.output, {}).items():
                found[name] = max(share, found.get(name, 0.0))
        worth_a_word = sorted((-share, name) for name, share in found.items() if share >= LEAST_SHARE)
        return ", ".join(f"{name} {-share:.2f}" for share, name in worth_a_word) or "–"


def _with_column(table: Sequence[tuple[str, ...]], column: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a table with another column before the last."""
    return [(*row[:-1], cell, row[-1]) for row, cell in zip(table, column, strict=True)]


def _described(target: Target) -> str:
    """Return a scan and its companions, and how their places were found."""
    companions = [f"{scan.name}, {place.description}" for scan, place in target.companions]
    return target.scan.name + (f" with {' and '.join(companions)}" if companions else "")


def _pairing(patient: Patient) -> str:
    """Return how the places of a case's scans in each other were found; a single scan has none."""
    placements = {place.placement for target in patient.targets for _, place in target.companions}
    return ", ".join(sorted(placements)) or ("none" if len(patient.targets) > 1 else "–")
