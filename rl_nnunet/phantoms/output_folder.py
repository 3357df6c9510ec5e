"""An output folder that appears at once when it is complete, and never replaces what is not ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_nnunet.errors import InputError


@contextmanager
def appearing_at_once(
    output: Path | str, overwrite: bool, find_foreign: Callable[[Path], str | None]
) -> Iterator[Path]:
    """Give a folder to write to that becomes `output` only when all went well, and is removed otherwise.

    Parameters
    ----------
    output : Path or str
        The folder; must not exist, or be empty, unless `overwrite`.
    overwrite : bool
        Replace what is there, if all of it is ours.
    find_foreign : callable
        Returns the name of something in a folder that this kind of phantom does not hold, or None.

    Raises
    ------
    InputError
        If the folder exists or cannot be written.
    """
    output = Path(os.path.abspath(Path(output).expanduser()))
    _check_replaceable(output, overwrite, find_foreign)
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


def _check_replaceable(output: Path, overwrite: bool, find_foreign: Callable[[Path], str | None]) -> None:
    try:
        if not os.path.lexists(output):
            return
        if output.is_symlink() or not output.is_dir():
            raise InputError(f"{output} exists and is not a folder; choose another output folder.")
        empty = not any(output.iterdir())
        foreign = find_foreign(output)
    except OSError as error:
        raise InputError(f"{output} cannot be read: {error.strerror}.") from error
    if foreign is not None:
        raise InputError(
            f"{output} exists and holds {foreign}, which is not of a phantom; choose another output folder."
        )
    if not empty and not overwrite:
        raise InputError(f"{output} exists; choose another output folder or add --overwrite.")
