"""One queue of commands for several places to run them, such as GPUs: each place takes the next one when it is free.

What one command writes goes into a file of its own, and one that fails stops no other. None outlives the queue.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rl_nnunet.supervised import CPU_COUNT_VARIABLE

WAITING, RUNNING, DONE, FAILED, INTERRUPTED = "waiting", "running", "done", "failed", "interrupted"
POLL_S = 0.1
END_S = 10.0
"""How long a command may take to end when it is asked to."""


@dataclass(frozen=True)
class Place:
    """Where one command runs at a time.

    Parameters
    ----------
    name : str
        For people.
    words : tuple of str
        Arguments that make a command run there.
    variables : dict of str to str
        Of the environment, that make it run there.
    """

    name: str
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def places(devices: Sequence[str], threads: int | None = None) -> list[Place]:
    """Return the places of nnU-Net's commands.

    Parameters
    ----------
    devices : sequence of str
        ``cpu``, ``mps``, ``cuda``, or the number of a GPU as torch counts them; one that is named twice is shared.
    threads : int, optional
        Of each command on the CPU; by default, those commands share the cores equally.
    """
    on_cpu = sum(device == "cpu" for device in devices)
    share = threads or (max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu > 1 else None)
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip()]
    found = []
    for device in devices:
        variables, kind = {}, device
        if device.isdigit():
            kind = "cuda"
            # The variable may leave some of the machine's GPUs to others already.
            variables["CUDA_VISIBLE_DEVICES"] = visible[int(device)].strip() if visible else device
        elif device == "cpu" and share is not None:
            variables = {CPU_COUNT_VARIABLE: str(share), "OMP_NUM_THREADS": str(share)}
        found.append(Place(f"GPU {device}" if device.isdigit() else device, ("-device", kind), variables))
    return found


@dataclass
class Job:
    """A command of this environment that is to be run.

    Parameters
    ----------
    name : str
        For people.
    words : callable
        Returns the command, without that of the place, when its turn comes: name, arguments before and after the
        place's.
    log : Path
        Where its output goes; its folder exists by the time of `words`.
    succeeded : callable
        Tells whether it has done what it was to do, once it has ended with exit code 0.
    """

    name: str
    words: Callable[[], tuple[Sequence[str], Sequence[str]]]
    log: Path
    succeeded: Callable[[], bool] = lambda: True
    state: str = WAITING
    place: str = ""

    def last_words(self) -> str:
        """Return the last line that the command wrote."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        except OSError:
            return "nothing"
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("Error: ") if said else "nothing"


def run_jobs(
    jobs: Sequence[Job],
    where: Sequence[Place],
    *,
    watch: Callable[[], None] = lambda: None,
    may_run_together: Callable[[], bool] = lambda: True,
) -> list[Job]:
    """Run all jobs; return those that failed.

    Parameters
    ----------
    jobs : sequence of Job
        In the order in which they are to begin; their states are kept up to date.
    where : sequence of Place
        Each runs one job at a time.
    watch : callable
        Is called again and again while jobs run.
    may_run_together : callable
        Tells whether a job may begin while another one runs.
    """
    waiting = deque(jobs)
    running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
    try:
        while waiting or running:
            for index, place in enumerate(where):
                if index in running and running[index][1].poll() is not None:
                    job, process = running.pop(index)
                    job.state = DONE if process.returncode == 0 and job.succeeded() else FAILED
                if index not in running and waiting and (not running or may_run_together()):
                    job = waiting.popleft()
                    running[index] = job, _start(job, place)
            watch()
            if running:
                time.sleep(POLL_S)
    finally:
        _end([process for _, process in running.values()])
        for job, _ in running.values():
            job.state = INTERRUPTED
        watch()
    return [job for job in jobs if job.state == FAILED]


def _start(job: Job, place: Place) -> subprocess.Popen[bytes]:
    before, after = job.words()
    words = [*before, *place.words, *after]
    job.state, job.place = RUNNING, place.name
    with job.log.open("ab") as log:
        log.write(f"# {datetime.now():%Y-%m-%d %H:%M:%S}, {place.name}: {shlex.join(words)}\n".encode())
        log.flush()
        # In a session of its own, with its workers: Ctrl-C is the queue's business.
        return subprocess.Popen(
            [sys.executable, "-m", "rl_nnunet.supervised", *words],
            env={**os.environ, **place.variables},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and their workers: ask them first."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and to all that are in its session."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()
