"""Writing a file or folder as a whole or not at all, and never at the cost of what somebody else put there.

A folder of ours carries a marker, `MARKER`, that lists its files. Only such a folder is ever replaced, and only as long
as it holds these files unchanged and nothing else, at any depth: names alone prove nothing, because phantoms and
converted data have the names of real data.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rl_nnunet.errors import InputError
from rl_nnunet.locks import LOCK_FILE, one_run_at_a_time, try_lock, unlock

# nnU-Net takes every folder that starts with "Dataset" for a data set.
UNFINISHED_PREFIX = ".rl_nnunet_unfinished_"
MARKER = ".rl_nnunet_folder.json"
# Some network file systems round times of modification when a file is closed.
TIME_TOLERANCE_S = 1e-3
# What a hidden folder for the work on a target may hold, beside its lock.
NEW, REPLACED = "new", "replaced"


@contextlib.contextmanager
def new_folder(target: Path, kind: str, *, overwrite: bool = False) -> Iterator[Path]:
    """Provide an empty folder that becomes the target when the block ends well, and vanishes when it does not.

    The folder lies in a hidden one beside the target, which is locked as long as this process lives: that is how the
    next run tells a leftover of a killed run, which it removes, from the work of a run beside it.

    Parameters
    ----------
    target : Path
        The folder to be. Missing parents are created, and removed with it.
    kind : str
        What the folder will hold, such as "a phantom", for the marker: a folder of another kind is not replaced.
    overwrite : bool
        Replace a folder of this kind that is there and unchanged.

    Raises
    ------
    InputError
        If the target is there and may not be replaced, another run is writing it, or it cannot be written.
    """
    created = [parent for parent in target.parents if not parent.exists()]
    try:
        check_replaceable(target, kind, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _workshop(target) as workshop:
            # A killed run may have left the old folder in its workshop, from which it is back now.
            check_replaceable(target, kind, overwrite=overwrite)
            folder = workshop / NEW
            folder.mkdir()
            yield folder
            _write_marker(folder, kind)
            # The work may have taken hours, in which somebody may have saved a file there.
            check_replaceable(target, kind, overwrite=overwrite)
            _swap_in(folder, target, workshop / REPLACED)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); free space, mend the permissions, or choose "
            "another folder."
        ) from None
    finally:
        for parent in created:
            with contextlib.suppress(OSError):  # not empty: the target is in it
                parent.rmdir()


@contextlib.contextmanager
def new_file(target: Path | str) -> Iterator[Path]:
    """Provide a path beside the target, of the same ending, that becomes the target when the block ends well.

    Whoever reads the target sees all of it, or what was there before. What a killed run left is overwritten next time.
    """
    target = Path(target).resolve()
    unfinished = target.with_name(f".unfinished_{target.name}")
    try:
        yield unfinished
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


# ---- what may be replaced ------------------------------------------------------------------------------------------


def check_replaceable(target: Path, kind: str, *, overwrite: bool) -> None:
    """Raise `InputError` if a folder is there and may not be replaced; an empty folder may be."""
    if target.name.startswith(UNFINISHED_PREFIX):
        raise InputError(f"{target}: names that start with {UNFINISHED_PREFIX} are those of unfinished folders.")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InputError(f"{target} exists and is not a folder; choose another one.")
    if os.path.ismount(target) or _is_in_use(target):
        raise InputError(f"{target} is a mounted or the current folder and cannot be replaced; choose a folder in it.")
    if not any(target.iterdir()):
        return
    reason = _reason_to_keep(target, kind)
    if reason:
        raise InputError(
            f"{target} exists and is not replaced, because it {reason}; remove it yourself if you do not "
            "need it, or choose another one."
        )
    if not overwrite:
        raise InputError(f"{target} exists already; add --overwrite to replace it, or choose another folder.")


def _is_in_use(folder: Path) -> bool:
    """Tell whether the current folder is this one or lies in it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return False
    return folder.resolve() in (here, *here.parents)


def _reason_to_keep(folder: Path, kind: str) -> str:
    """Return why a folder must not be replaced, as the end of a sentence; nothing if it may be."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        written_kind, files, known_folders = marker["kind"], dict(marker["files"]), set(marker["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return "was not written by this command"
    if written_kind != kind:
        return f"is {written_kind}, not {kind}"
    for place, folders, names in os.walk(folder, onerror=_raise):
        for path in (Path(place, name) for name in (*names, *folders)):
            relative = path.relative_to(folder).as_posix()
            if relative not in files and relative not in (MARKER, *known_folders):
                return f"holds something else, {relative}"
            if path.is_symlink() or (relative in files and not _is_unchanged(path, files[relative])):
                return f"holds {relative}, which was changed since"
    return ""


def _raise(error: OSError) -> None:
    raise error


def _write_marker(folder: Path, kind: str) -> None:
    """List the folders in a folder, and its files, each with its size and time of modification (s)."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    folders = [relative for relative, path in paths.items() if path.is_dir()]
    states = {relative: path.stat() for relative, path in paths.items() if path.is_file()}
    files = {relative: [state.st_size, state.st_mtime] for relative, state in states.items()}
    content = {"kind": kind, "folders": folders, "files": files}
    (folder / MARKER).write_text(json.dumps(content, indent=1), encoding="utf-8")


@contextlib.contextmanager
def changing_our_files(folder: Path, *names: str) -> Iterator[None]:
    """Change some files of a folder in the block, so that they are still ours if they were before."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        ours = [name for name in names if _is_unchanged(folder / name, marker["files"][name])]
    except (OSError, ValueError, KeyError, TypeError):
        ours = []
    yield
    if ours:
        states = {name: (folder / name).stat() for name in ours}
        marker["files"] |= {name: [state.st_size, state.st_mtime] for name, state in states.items()}
        with new_file(folder / MARKER) as file:
            file.write_text(json.dumps(marker, indent=1), encoding="utf-8")


def _is_unchanged(path: Path, expected: tuple[int, float]) -> bool:
    status = path.stat()
    return status.st_size == expected[0] and abs(status.st_mtime - expected[1]) <= TIME_TOLERANCE_S


# ---- from unfinished to finished -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """Provide the hidden folder beside the target, locked, and remove it with all that is in it."""
    workshop = target.parent / f"{UNFINISHED_PREFIX}{target.name}"
    # Between the folder and its lock, a run beside would take it for a leftover.
    with one_run_at_a_time(target.parent):
        _clear_leftovers(target.parent)
        try:
            workshop.mkdir()
        except FileExistsError:
            old = workshop / REPLACED
            remedy = f"move {old} to {target}" if old.exists() and not target.exists() else f"remove {workshop}"
            raise InputError(
                f"Another run is writing {target}; wait for it to end or, if there is none, {remedy}."
            ) from None
        lock, _ = try_lock(workshop)
    try:
        yield workshop
    finally:
        _empty(workshop)
        # Until it is gone, a run beside must not make a new one of this name.
        with one_run_at_a_time(target.parent):
            _remove(workshop, lock)


def _swap_in(folder: Path, target: Path, replaced: Path) -> None:
    """Put a folder in the place of the target, in one step where the system can."""
    if not target.exists():
        folder.rename(target)
    elif not _exchange(folder, target):
        # Whoever is killed between these two leaves the old folder where the next run finds it.
        target.rename(replaced)
        try:
            folder.rename(target)
        except OSError:
            replaced.rename(target)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False if the system or the file system cannot."""
    if os.name == "nt":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):  # Linux
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return library.renameat2(here, names[0], here, names[1], exchange) == 0
    if hasattr(library, "renamex_np"):  # macOS
        swap = 2  # RENAME_SWAP
        return library.renamex_np(*names, swap) == 0
    return False


def _clear_leftovers(parent: Path) -> None:
    """Remove what killed runs left; a folder that was about to be replaced comes back."""
    for workshop in parent.glob(f"{UNFINISHED_PREFIX}*"):
        lock, _ = try_lock(workshop) if _is_leftover(workshop) else (None, False)
        if lock is None:
            continue
        target = parent / workshop.name.removeprefix(UNFINISHED_PREFIX)
        with contextlib.suppress(FileNotFoundError):
            if not os.path.lexists(target):
                (workshop / REPLACED).rename(target)
        _remove(workshop, lock)


def _empty(workshop: Path) -> None:
    for name in (NEW, REPLACED):
        shutil.rmtree(workshop / name, ignore_errors=True)


def _remove(workshop: Path, lock: int | None) -> None:
    """Remove a workshop, and lift its lock once there is nothing else in it; Windows keeps a file that is locked."""
    _empty(workshop)
    unlock(workshop, lock)
    shutil.rmtree(workshop, ignore_errors=True)


def _is_leftover(workshop: Path) -> bool:
    """Tell whether a folder called like a workshop holds nothing but what a workshop holds."""
    try:
        return not workshop.is_symlink() and set(os.listdir(workshop)) <= {NEW, REPLACED, LOCK_FILE}
    except OSError:
        return False
