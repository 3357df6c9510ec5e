"""Writes a whole phantom data set: in parallel, and visible only once it is complete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError
from rl_nnunet.phantoms.config import HeartPhantomConfig

if TYPE_CHECKING:
    from rl_nnunet.phantoms.write import CaseJob, WrittenCase

FOLDERS = ("ct_train", "mr_train", "ct_test", "mr_test")
ROTATIONS_FILE = "rotations.json"
ROTATIONS_CONVENTION = (
    "Signed permutation matrices in array order (z, y, x). With indices counted from the middle of the array: "
    "stored[matrix @ index] == unrotated[index]. "
    "rl_nnunet.phantoms.geometry.rotate_array(stored, transposed matrix) undoes it."
)


def write_heart_dataset(
    output: Path | str,
    cases: int = 20,
    test_cases: int = 0,
    seed: int = 0,
    config: HeartPhantomConfig | None = None,
    *,
    paired: bool = False,
    paired_test: bool = False,
    rotate_mr: bool = False,
    test_labels: bool = False,
    processes: int = 1,
    overwrite: bool = False,
) -> list[WrittenCase]:
    """Write a data set of phantom hearts in the layout of MM-WHS 2017.

    Parameters
    ----------
    output : Path or str
        Folder to write; must not exist, or be empty, unless `overwrite`.
    cases, test_cases : int
        Labeled and unlabeled cases per modality.
    seed : int
        Same seed, same images, whatever `processes`.
    config : HeartPhantomConfig, optional
        Sizes, variation, noise.
    paired : bool
        CT and MR of one number show the same heart, each on its own grid.
    paired_test : bool
        Only those of the test cases do; what is trained on stays unpaired.
    rotate_mr : bool
        Turn the content of every MR by a random rotation of the cube, and write ``rotations.json``; everything is
        stored in the orientation LPS then.
    test_labels : bool
        Write the labels of the test cases beside their images, too; MM-WHS keeps them to itself.
    processes : int
        Worker processes; 1 does the work in this one.
    overwrite : bool
        Replace a phantom data set that is there. A folder that holds anything else is never replaced.

    Returns
    -------
    list of WrittenCase
        What was written, training cases first.

    Raises
    ------
    InputError
        If the folder exists or cannot be written.
    """
    with _appearing_at_once(Path(os.path.abspath(Path(output).expanduser())), overwrite) as folder:
        # Imported late, so that a folder that cannot be written is reported at once.
        from rl_nnunet.phantoms.write import plan_jobs

        config = config or HeartPhantomConfig()
        jobs = plan_jobs(seed, cases, test_cases, config, paired, paired_test, rotate_mr, test_labels)
        written = _write_cases(folder, jobs, processes)
        if rotate_mr:
            _write_rotations(folder / ROTATIONS_FILE, written)
    return written


@contextmanager
def _appearing_at_once(output: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write to that becomes `output` only when all went well, and is removed otherwise."""
    _check_replaceable(output, overwrite)
    created, temporary = [], None
    try:
        created = [parent for parent in output.parents if not parent.exists()]
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
        content = temporary / "content"
        content.mkdir()
        yield content
        _swap_in(content, output, temporary / "replaced")
        created = []
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in created:
            if parent.exists():
                parent.rmdir()


def _swap_in(content: Path, output: Path, replaced: Path) -> None:
    if not output.exists():
        content.rename(output)
        return
    output.rename(replaced)
    try:
        content.rename(output)
    except OSError:
        replaced.rename(output)
        raise


def _check_replaceable(output: Path, overwrite: bool) -> None:
    try:
        if not os.path.lexists(output):
            return
        if output.is_symlink() or not output.is_dir():
            raise InputError(f"{output} exists and is not a folder; choose another output folder.")
        content = {path.name for path in output.iterdir()}
    except OSError as error:
        raise InputError(f"{output} cannot be read: {error.strerror}.") from error
    foreign = sorted(content - {*FOLDERS, ROTATIONS_FILE})
    if foreign:
        raise InputError(
            f"{output} exists and holds {foreign[0]}, which is not of a phantom; choose another output folder."
        )
    if content and not overwrite:
        raise InputError(f"{output} exists; choose another output folder or add --overwrite.")


def _write_cases(folder: Path, jobs: list[CaseJob], processes: int) -> list[WrittenCase]:
    from tqdm import tqdm

    from rl_nnunet.phantoms.write import write_case

    for name in {job.folder for job in jobs}:
        (folder / name).mkdir()
    with tqdm(total=len(jobs), desc="Making phantoms", unit="case") as progress:
        if processes > 1:
            return _write_in_parallel(folder, jobs, min(processes, len(jobs)), progress.update)
        written = []
        for job in jobs:
            written.append(write_case(folder, job))
            progress.update()
        return written


def _write_in_parallel(
    folder: Path, jobs: list[CaseJob], processes: int, count: Callable[[], object]
) -> list[WrittenCase]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    from rl_nnunet.phantoms.write import write_case

    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        futures = [pool.submit(write_case, folder, job) for job in jobs]
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


def _write_rotations(path: Path, written: list[WrittenCase]) -> None:
    rotations = {case.job.name: case.rotation.tolist() for case in written if case.job.rotate}
    path.write_text(json.dumps({"convention": ROTATIONS_CONVENTION, "rotations": rotations}) + "\n")
