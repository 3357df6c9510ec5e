"""Writing a folder as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rl_nnunet.errors import InputError

# nnU-Net takes every folder that starts with "Dataset" for a data set.
UNFINISHED_PREFIX = ".rl_nnunet_unfinished_"


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Provide an empty folder that becomes the target when the block ends well, and vanishes when it does not.

    The folder lies in a hidden one beside the target, which is locked as long as this process lives: that is how the
    next run tells a leftover of a killed run, which it removes, from the work of a run beside it.

    Parameters
    ----------
    target : Path
        The folder to be; what exists there is replaced. Missing parents are created, and removed with it.
    """
    created = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _workshop(target) as workshop:
            folder = workshop / "new"
            folder.mkdir()
            yield folder
            _swap_in(folder, target, workshop / "replaced")
    finally:
        for parent in created:
            with contextlib.suppress(OSError):  # not empty: the target is in it
                parent.rmdir()


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """Provide the hidden folder beside the target, locked, and remove it with all that is in it."""
    workshop = target.parent / f"{UNFINISHED_PREFIX}{target.name}"
    # Between the folder and its lock, a run beside would take it for a leftover.
    with _one_run_at_a_time(target.parent):
        _remove_leftovers(target.parent)
        try:
            workshop.mkdir()
        except FileExistsError:
            raise InputError(
                f"Another run is writing {target}; wait for it to end, or remove {workshop} if there is none."
            ) from None
        lock = _try_lock(workshop)
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _swap_in(folder: Path, target: Path, replaced: Path) -> None:
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise


@contextlib.contextmanager
def _one_run_at_a_time(parent: Path) -> Iterator[None]:
    """Wait until no run beside this one is in such a block, where the file system can lock."""
    lock = _try_lock(parent, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock a folder for this process; the system lifts the lock when the process ends, however it ends.

    Returns
    -------
    int or None
        The descriptor whose closing lifts the lock; None if another process has it, the folder is gone, or the file
        system cannot lock.
    """
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{UNFINISHED_PREFIX}*"):
        lock = _try_lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@contextlib.contextmanager
def only_run_in(folder: Path, refusal: str) -> Iterator[None]:
    """Lock a folder for the block, where the file system can lock.

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
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(refusal) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
