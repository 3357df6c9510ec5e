"""Makes cases in one process or in several, with a progress bar; the result is the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

from rl_nnunet.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")


def make_cases(make: Callable[[Job], Result], jobs: list[Job], processes: int) -> list[Result]:
    """Return what `make` returns for every job, in their order.

    Parameters
    ----------
    make : callable
        Makes one case; must be picklable if there are several processes.
    jobs : list
        Its arguments.
    processes : int
        Worker processes; 1 does the work in this one.
    """
    from tqdm import tqdm

    with tqdm(total=len(jobs), desc="Making phantoms", unit="case") as progress:
        if processes > 1:
            return _make_in_parallel(make, jobs, min(processes, len(jobs)), progress.update)
        made = []
        for job in jobs:
            made.append(make(job))
            progress.update()
        return made


def _make_in_parallel(
    make: Callable[[Job], Result], jobs: list[Job], processes: int, count: Callable[[], object]
) -> list[Result]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        futures = [pool.submit(make, job) for job in jobs]
        for future in as_completed(futures):
            future.result()
            count()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise InputError(
            "A worker process died, likely for lack of memory; try fewer processes or a smaller size."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    import SimpleITK as sitk

    # Ctrl-C reaches the whole process group; the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes are the parallelism.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
