"""Preprocess, predict and export many scans, each step beside the others; what is wrong with one stops no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.inference.export_prediction import export_prediction_from_logits

from rl_nnunet.errors import InputError
from rl_nnunet.headers import nifti
from rl_nnunet.parallel import prepare_worker
from rl_nnunet.prediction.companions import CompanionPredictor
from rl_nnunet.prediction.left_out import LeftOut
from rl_nnunet.prediction.patients import Target
from rl_nnunet.prediction.preprocessing import Prepared, Preprocessing
from rl_nnunet.prediction.progress import Progress

QUEUED_EXPORTS = 2
"""How many predictions wait for an export at most, as in nnU-Net."""
PROBABILITY_ENDINGS = (".npz", ".pkl")
Timed = tuple[Any, float]
"""What a step returns, and the seconds that it took."""


def unfinished_name(output: Path) -> Path:
    """Return where the files of a scan are written before they get their names, without ending."""
    return output.with_name(f".unfinished_{output.name}")


@dataclass(frozen=True)
class Export:
    """Calls nnU-Net's export; it can be sent to another process.

    Parameters
    ----------
    preprocessing : Preprocessing
        How the scans were preprocessed.
    save_probabilities : bool
        Whether to write them, too.
    """

    preprocessing: Preprocessing
    save_probabilities: bool

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that a scan gets; that of the segmentation last."""
        probabilities = PROBABILITY_ENDINGS if self.save_probabilities else ()
        return (*probabilities, self.preprocessing.dataset_json["file_ending"])

    def __call__(self, logits: np.ndarray, properties: dict[str, Any], output: Path) -> None:
        """Write the segmentation of a scan; all of it, or nothing.

        Parameters
        ----------
        logits : array
            Of the preprocessed scan.
        properties : dict
            nnU-Net's.
        output : Path
            The file, without ending.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        how, unfinished = self.preprocessing, unfinished_name(output)
        try:
            export_prediction_from_logits(
                logits, properties, how.configuration, how.plans, how.dataset_json, str(unfinished),
                self.save_probabilities,
            )  # fmt: skip
            segmentation = Path(f"{unfinished}{self.endings[-1]}")
            if nifti.is_nifti(segmentation):
                _check_written(segmentation, output)
            for ending in self.endings:
                Path(f"{unfinished}{ending}").replace(f"{output}{ending}")
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0].strip()
            raise InputError(
                f"{output}{self.endings[-1]} cannot be written ({reason}); free space, or mend the permissions."
            ) from None
        finally:
            for ending in self.endings:
                Path(f"{unfinished}{ending}").unlink(missing_ok=True)


def _check_written(segmentation: Path, output: Path) -> None:
    """Raise `OSError` if a file is not complete: ITK reports no error on a full disk."""
    try:
        nifti.check_complete(segmentation)
    except InputError:
        raise OSError(28, "the disk or quota is full", str(output)) from None


class Workers(NamedTuple):
    """The processes of a pipeline."""

    preprocessing: Executor
    export: Executor


@contextlib.contextmanager
def start_workers(processes: tuple[int, int]) -> Iterator[Workers]:
    """Provide processes for preprocessing and export, which end with the block, however it ends.

    The first of each starts at once: what it imports takes seconds, in which this process can load the model. With 0,
    this process does the work.
    """
    with _processes(processes[0]) as preprocessing, _processes(processes[1]) as export:
        yield Workers(preprocessing, export)


@dataclass
class Pipeline:
    """Predicts scans.

    Parameters
    ----------
    predictor : CompanionPredictor
        With the network.
    preprocessing : Preprocessing
        How to preprocess.
    export : Export
        How to write.
    processes : tuple of int
        Of preprocessing and export; 0 works in this process.
    workers : Workers
        These processes.
    branches : sequence of sequence of int
        Channels of each branch of the network.
    progress : Progress
        What is told of each scan.
    left_out : LeftOut
        What the network leaves out of it.
    """

    predictor: CompanionPredictor
    preprocessing: Preprocessing
    export: Export
    processes: tuple[int, int]
    workers: Workers
    branches: Sequence[Sequence[int]]
    progress: Progress
    left_out: LeftOut

    def run(self, targets: Sequence[Target], previous: Callable[[Target], Path | None]) -> None:
        """Segment all targets.

        Parameters
        ----------
        targets : sequence of Target
            The scans.
        previous : callable
            Returns the segmentation of the previous stage of a cascade, or None.

        Raises
        ------
        InputError
            If a process was killed.
        """
        try:
            exports: dict[Future[Timed], tuple[Target, float]] = {}
            for target, future in self._preprocessed(targets, previous):
                self.progress.begin(target)
                with self._failing(target):
                    export, seconds = self._segment(target, *future.result())
                    exports[export] = target, seconds
                del future  # holds the scan, which need not be there while the next one is preprocessed
                self._collect(exports, self.processes[1] + QUEUED_EXPORTS - 1)
            self._collect(exports, 0)
        except BrokenProcessPool:
            raise InputError(
                "A worker process was killed, most likely because the memory ran out; try again with a smaller -npp or "
                "-nps."
            ) from None

    def _preprocessed(
        self, targets: Sequence[Target], previous: Callable[[Target], Path | None]
    ) -> Iterator[tuple[Target, Future[Timed]]]:
        """Yield targets in order; of those ahead, there is one a process, however many there are."""
        ahead: deque[tuple[Target, Future[Timed]]] = deque()
        for target in targets:
            ahead.append(
                (target, self.workers.preprocessing.submit(_timed, self.preprocessing, target, previous(target)))
            )
            if len(ahead) > self.processes[0]:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()

    def _segment(self, target: Target, prepared: Prepared, seconds: float) -> tuple[Future[Timed], float]:
        """Predict a scan and have it exported; return the export, and the seconds until then.

        A method of its own, so that scan and logits are gone before the next ones come.
        """
        self.left_out.take()  # of a scan whose prediction failed
        (logits, properties), more = _timed(self._predict, target, prepared)
        self.progress.note(target.output, self.left_out.take())
        return self.workers.export.submit(_timed, self.export, logits, properties, target.output), seconds + more

    def _predict(self, target: Target, prepared: Prepared) -> tuple[np.ndarray, dict[str, Any]]:
        data = prepared.for_network(self.branches, tuple(target.scan.channels))
        try:
            return self.predictor.predict_logits_from_preprocessed_data(data).cpu().numpy(), prepared.properties
        except (RuntimeError, MemoryError) as error:
            reason = (str(error).splitlines() or ["out of memory"])[0]
            raise InputError(f"{target.scan.file} cannot be predicted ({reason}); try --not_on_device.") from None

    def _collect(self, exports: dict[Future[Timed], tuple[Target, float]], most: int) -> None:
        """Wait until no more exports than some are at work, and note what became of those that are done."""
        while len(exports) > most:
            done, _ = wait(exports, return_when=FIRST_COMPLETED)
            for future in done:
                target, seconds = exports.pop(future)
                with self._failing(target):
                    self.progress.end(target.output, seconds + future.result()[1])

    @contextlib.contextmanager
    def _failing(self, target: Target) -> Iterator[None]:
        """Note what is wrong with a scan, whatever it is, so that the others go on; but not the end of a worker."""
        try:
            yield
        except BrokenProcessPool:
            raise
        except InputError as error:
            self.progress.fail(target.output, str(error))
        except Exception as error:  # noqa: BLE001 - what nnU-Net makes of an image that nobody has foreseen
            traceback.print_exception(error)
            reason = (str(error).splitlines() or ["?"])[0]
            self.progress.fail(
                target.output,
                f"{target.scan.file} cannot be segmented ({type(error).__name__}: {reason}); look at the file, and at "
                "the traceback above.",
            )


def _timed(function: Callable[..., Any], *arguments: Any) -> Timed:
    """Return what a function returns, and the seconds that it took."""
    start = time.monotonic()
    return function(*arguments), time.monotonic() - start


class _ThisProcess(Executor):
    """Does at once what it is given."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def _get_ready() -> None:
    """Do nothing: a worker that has been given something has imported this module, and nnU-Net with it."""


@contextlib.contextmanager
def _processes(number: int) -> Iterator[Executor]:
    """Provide workers, which end with the block, however it ends."""
    if not number:
        yield _ThisProcess()
        return
    executor = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=prepare_worker)
    try:
        executor.submit(_get_ready)  # the first starts; the others do when there is something for them
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
