"""Working on many files in parallel processes, with a progress bar and without orphaned processes.

What of the files cannot be used is said in one sentence.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import Protocol, TypeVar

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
Result = TypeVar("Result")
AnyReport = TypeVar("AnyReport", bound=Report)


def report_on_all(
    work: Callable[[Item], AnyReport], items: Sequence[Item], processes: int, label: str
) -> list[AnyReport]:
    """Return the report that `work` returns for every item, as `work_on_all`, if all items can be used.

    Raises
    ------
    InputError
        If an item cannot be used: the sentence on the first one, and which others cannot.
    """
    reports = work_on_all(work, items, processes, label)
    bad = [report for report in reports if report.error]
    if bad:
        others = ", ".join(report.name for report in bad[1:4]) + (", ..." if len(bad) > 4 else "")
        raise InputError(bad[0].error + (f" (Unusable, too: {len(bad) - 1} more, {others}.)" if others else ""))
    return reports


@contextmanager
def errors_in(report: Report, subject: str, unwritable: Callable[[OSError], str]) -> Iterator[None]:
    """Put into a report why its item cannot be used.

    Parameters
    ----------
    report : Report
        The report.
    subject : str
        What is worked on, for messages.
    unwritable : callable
        Returns the sentence for a failed write; reading puts its errors into sentences by itself.
    """
    try:
        yield
    except InputError as error:
        report.error = str(error)
    except OSError as error:
        report.error = unwritable(error)
    except MemoryError:
        report.error = f"The memory does not suffice for {subject}; try again with a smaller -np."


def work_on_all(work: Callable[[Item], Result], items: Sequence[Item], processes: int, label: str) -> list[Result]:
    """Return what `work` returns for every item, in the order of the items.

    Parameters
    ----------
    work : callable
        Works on one item; it must be picklable if there are several processes.
    items : sequence
        What to work on.
    processes : int
        Number of processes; 1 does the work in this one.
    label : str
        Of the progress bar.

    Raises
    ------
    InputError
        If a process was killed. What `work` raises is passed on.
    """
    from tqdm import tqdm  # late, because commands import this module before they answer --help

    # Closed at once when interrupted, so that no worker writes on while its folder is being removed.
    with closing(_run(work, items, processes)) as run:
        indexed = dict(tqdm(run, total=len(items), desc=label, unit="case"))
    return [indexed[index] for index in range(len(items))]


def _run(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[tuple[int, Result]]:
    """Yield indices and results as they come; a single process needs no pool."""
    if processes == 1 or not items:
        yield from enumerate(map(work, items))
        return
    executor = ProcessPoolExecutor(
        min(processes, len(items)), multiprocessing.get_context("spawn"), initializer=prepare_worker
    )
    try:
        indices = {executor.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(indices):
            yield indices[future], future.result()
    except BrokenProcessPool:
        raise InputError(
            "A worker process was killed, most likely because the memory ran out; try again with a smaller -np."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def prepare_worker() -> None:
    """One thread a process; Ctrl-C is the parent's business; and no process outlives a killed parent."""
    import SimpleITK as sitk

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
