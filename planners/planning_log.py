"""Keeping what nnU-Net's planning prints in a file, so that its table and warnings can be seen."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rl_nnunet.errors import InputError

LOG_FILE = "rl_nnunet_planning.log"
TAIL_LINES = 20
IMPORTANT = re.compile(r"\W*(notice|warning|error|attention)\b", re.IGNORECASE)
"""What the lines look like that are printed all the same: nnU-Net prints its warnings, too."""


class _KeepInFile(io.TextIOBase):
    """A stream that writes to a file, and important lines to the screen as well."""

    def __init__(self, file: TextIO, screen: TextIO) -> None:
        self._file = file
        self._screen = screen
        self._line = ""

    def write(self, text: str) -> int:
        """Write to the file; lines are passed on when they are complete."""
        self._file.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if IMPORTANT.match(line):
                self._screen.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Flush both."""
        self._file.flush()
        self._screen.flush()


@contextlib.contextmanager
def printing_to(file: Path, *, verbose: bool) -> Iterator[None]:
    """Append what is printed in the block to a file, except for notices and warnings; print all of it if verbose.

    If the block fails in a way that nobody has put into a sentence, the end of the file is printed: it may say why.
    """
    if verbose:
        yield
        return
    # Case names need not be UTF-8.
    with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
        try:
            with contextlib.redirect_stdout(_KeepInFile(log, sys.stdout)):
                yield
        except (InputError, OSError):
            raise
        except Exception:
            log.flush()
            tail = file.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:]
            print(f"The end of {file}:", *tail, sep="\n", file=sys.stderr)
            raise
