"""Seconds and peak memory of a command with its worker processes; Linux only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from workflow import Workplace

INTERVAL = 0.1
"""Seconds between two looks at the memory."""


def resident_bytes(root: int) -> int:
    """Return the memory of a process and its descendants that they do not share with others (PSS); Linux only."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    total, family = 0, [root]
    while family:
        process = family.pop()
        family += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def measured(place: Workplace, command: Sequence[str]) -> tuple[float, int]:
    """Run a command of this environment; return its seconds and the peak of its memory in bytes."""
    words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    start, peak = time.perf_counter(), 0
    with (
        open(place.root / "log.txt", "a") as log,
        subprocess.Popen(words, env={**os.environ, **place.variables}, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(INTERVAL)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed; see {place.root / 'log.txt'}.")
    return time.perf_counter() - start, peak
