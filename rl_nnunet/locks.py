"""Locks on folders that no killed run leaves behind: the system lifts them when a process ends, however it ends.

The lock of a folder is one on a file in it, `LOCK_FILE`, so that runs on all machines that share the folder see it. The
file goes with the lock; one that a killed run left behind stops nobody, and goes with the next lock. Where the folder
cannot be written, or the file system cannot lock, there are no locks, and nothing is stopped either.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rl_nnunet.errors import InputError

LOCK_FILE = ".rl_nnunet_lock"
SILENT_WAIT_S = 3.0


def try_lock(folder: Path) -> tuple[int | None, bool]:
    """Lock a folder for this process, if no other one has it.

    Returns
    -------
    int or None
        What `unlock` takes; None if another process has the lock, the folder is gone, or nothing can be locked there.
    bool
        Whether another process has it.
    """
    # Late, because commands import this module before they answer --help. FileLock would not do: where the system
    # cannot lock, it makes a file stand for the lock, which outlives a killed process.
    from filelock import lock_descriptor

    while True:
        try:
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None, False
        try:
            taken = not lock_descriptor(descriptor, blocking=False)
        except OSError:
            unlock(folder, descriptor)
            return None, False
        if not taken and _is_in_place(folder, descriptor):
            return descriptor, False
        os.close(descriptor)
        if taken:
            return None, True


def _is_in_place(folder: Path, descriptor: int) -> bool:
    """Tell whether the folder's lock is on this file: it may have been removed since it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK_FILE))
    except FileNotFoundError:
        return False


def unlock(folder: Path, lock: int | None) -> None:
    """Lift a lock of `try_lock`, if there is one, and remove its file."""
    if lock is None:
        return
    if os.name == "nt":
        # Windows removes no file that is open, and so none for whose lock another run waits.
        os.close(lock)
    # Elsewhere, the file must not outlive the lock: it would be that of the next run.
    with contextlib.suppress(OSError):
        (folder / LOCK_FILE).unlink()
    if os.name != "nt":
        os.close(lock)


@contextlib.contextmanager
def one_run_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder; a wait of seconds is said."""
    start, said = time.monotonic(), False
    lock, taken = try_lock(folder)
    while taken:
        if not said and time.monotonic() - start > SILENT_WAIT_S:
            print(f"Waiting for another run that is at work in {folder} ...", file=sys.stderr, flush=True)
            said = True
        time.sleep(0.05)
        lock, taken = try_lock(folder)
    try:
        yield
    finally:
        unlock(folder, lock)


@contextlib.contextmanager
def only_run_in(folder: Path, refusal: str) -> Iterator[None]:
    """Lock a folder for the block.

    Parameters
    ----------
    folder : Path
        The folder; it exists.
    refusal : str
        What to say if another process has it.

    Raises
    ------
    InputError
        If another process has it.
    """
    lock, taken = try_lock(folder)
    if taken:
        raise InputError(refusal)
    try:
        yield
    finally:
        unlock(folder, lock)
