"""The folder of a phantom data set: it appears at once when it is complete, and never replaces what is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_nnunet.errors import InputError
from rl_nnunet.files import new_folder

PROGRESS_LABEL = "Making phantoms"


@contextmanager
def new_phantom_folder(
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
    try:
        with new_folder(output) as folder:
            yield folder
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}.") from error


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
