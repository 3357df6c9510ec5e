"""Whether a path may be opened at all, asked before it is: opening a pipe or a device can wait for ever.

ITK reads what is no regular file as it comes, and cannot be interrupted from Python. Of regular files, nothing can make
it wait: how much there is to read is known from the header, and checked, before ITK gets the file.
"""

from __future__ import annotations

from pathlib import Path

from rl_nnunet.errors import InputError


def check_regular(path: Path) -> None:
    """Refuse what is there, but is no file; what is not there is left to the reader.

    Raises
    ------
    InputError
        If it is a folder, a pipe, a socket or a device, or a link to one, or ITK cannot open a file of this name.
    """
    check_name(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file but a folder, a pipe or a device; remove it, or name another one.")


def check_name(path: Path) -> None:
    """Raise `InputError` if ITK cannot open a file of this name: on bytes that are no UTF-8, it ends the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} has a name that is not UTF-8, which ITK cannot open; rename it.") from None
