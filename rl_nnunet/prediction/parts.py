"""The cases of one prediction, shared out among several devices: ``rl_nnunet_predict --devices``.

Each device has a process of its own, which is the same command with ``-num_parts`` and ``-part_id``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from rl_nnunet.command_queue import DONE, FAILED, Job, Place, run_jobs
from rl_nnunet.errors import InputError


def predict_in_parts(
    words: Sequence[str],
    names: Sequence[str],
    where: Sequence[Place],
    *,
    part: int = 0,
    parts: int = 1,
    allow_tqdm: bool = True,
) -> None:
    """Segment cases on several devices at once.

    Parameters
    ----------
    words : sequence of str
        The command, without devices.
    names : sequence of str
        All cases of the command, in its order.
    where : sequence of Place
        The devices.
    part, parts : int
        Which part of the cases this command has to do, of how many.
    allow_tqdm : bool
        Whether to show a bar over the cases.

    Raises
    ------
    InputError
        If a device's part failed, once all of them have ended: with its own sentence.
    """
    names = names[part::parts]
    where = where[: len(names)]
    with tempfile.TemporaryDirectory() as folder, tqdm(
        total=len(names), desc="Predicting", unit="case", disable=not allow_tqdm
    ) as bar:  # fmt: skip
        jobs = [
            # The cases with index i, i + n, ... of every parts-th one.
            part_of(words, part + parts * index, parts * len(where), Path(folder, f"part_{index}.log"))
            for index in range(len(where))
        ]
        shown = _Shown({job.name: names[index :: len(where)] for index, job in enumerate(jobs)}, jobs, bar)
        failed = run_jobs(jobs, where, watch=shown.update)
    if failed:
        raise InputError(" ".join(dict.fromkeys(shown.reasons[job.name] for job in failed)))  # often the same


def part_of(words: Sequence[str], part: int, parts: int, log: Path) -> Job:
    """Return the command for one part of the cases, whose output goes to a file."""
    which = ("-num_parts", str(parts), "-part_id", str(part), "--disable_progress_bar")
    return Job(f"part {part}", lambda: (words, which), log)


class _Shown:
    """Moves the bar, and prints what a part has printed once it has ended: two at a time could not be read."""

    def __init__(self, cases: Mapping[str, Sequence[str]], jobs: Sequence[Job], bar: tqdm) -> None:
        self.cases, self.jobs, self.bar = cases, jobs, bar
        self.reasons: dict[str, str] = {}
        self._ended: set[str] = set()

    def update(self) -> None:
        """Look at the logs: of a part that runs, all cases that it has begun are done but the last.

        One that has ended is done with all of its cases: some may have been there already, or have failed.
        """
        done = 0
        for job in self.jobs:
            _, *lines = job.log.read_text(encoding="utf-8").splitlines() if job.log.is_file() else [""]
            own = self.cases[job.name]
            begun = len({line.split(": ")[0] for line in lines} & set(own))
            ended = job.state in (DONE, FAILED)
            done += len(own) if ended else max(0, begun - 1)
            if ended and job.name not in self._ended:
                self._ended.add(job.name)
                self.reasons[job.name] = _reason(job, lines)
                self.bar.write("\n".join((f"{job.place}:", *lines)))
        self.bar.update(done - self.bar.n)


def _reason(job: Job, lines: Sequence[str]) -> str:
    """Return the sentence of a part that failed; one that was killed has none."""
    if lines and lines[-1].startswith("Error: "):
        return job.last_words()
    return (
        f"The process on {job.place} ended without a word, most likely because the memory ran out; go on with "
        "--continue_prediction, and a smaller -npp or -nps."
    )
