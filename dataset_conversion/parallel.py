"""Converting files in parallel processes: a progress bar, one sentence on what is unusable, no orphaned processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

import SimpleITK as sitk
from tqdm import tqdm

from rl_nnunet.errors import InputError


class Report(Protocol):
    """What became of one item: its name, and the sentence if it cannot be used.

    The sentence is no exception, because that would stop the other items.
    """

    error: str

    @property
    def name(self) -> str:
        """The item's name."""


Item = TypeVar("Item")
AnyReport = TypeVar("AnyReport", bound=Report)


def convert_all(convert: Callable[[Item], AnyReport], items: Sequence[Item], processes: int) -> list[AnyReport]:
    """Convert all items and return their reports, in the order of the items.

    Parameters
    ----------
    convert : callable
        Converts one item and returns its report; it must be picklable.
    items : sequence
        What to convert.
    processes : int
        Number of processes; 1 does the work in this one.

    Raises
    ------
    InputError
        If an item cannot be used: the sentence on the first one, and which others cannot.
    """
    # Closed at once when interrupted, so that no worker writes on while the folder is being removed.
    with contextlib.closing(_run(convert, items, processes)) as run:
        indexed = dict(tqdm(run, total=len(items), desc="Converting", unit="case"))
    reports = [indexed[index] for index in range(len(items))]
    bad = [report for report in reports if report.error]
    if bad:
        others = ", ".join(report.name for report in bad[1:4]) + (", ..." if len(bad) > 4 else "")
        raise InputError(bad[0].error + (f" (Unusable, too: {len(bad) - 1} more, {others}.)" if others else ""))
    return reports


def _run(
    convert: Callable[[Item], AnyReport], items: Sequence[Item], processes: int
) -> Iterator[tuple[int, AnyReport]]:
    """Yield indices and reports as they come; a single process needs no pool."""
    if processes == 1:
        yield from enumerate(map(convert, items))
        return
    executor = ProcessPoolExecutor(
        min(processes, len(items)), multiprocessing.get_context("spawn"), initializer=_prepare_worker
    )
    try:
        indices = {executor.submit(convert, item): index for index, item in enumerate(items)}
        for future in as_completed(indices):
            yield indices[future], future.result()
    except BrokenProcessPool:
        raise InputError(
            "A worker process was killed, most likely because the memory ran out; try again with a smaller -np."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """One thread a process; Ctrl-C is the parent's business; and no process outlives a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
