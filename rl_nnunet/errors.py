"""One way to tell a user that an input cannot be used: one sentence, no traceback, a non-zero exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """An input that cannot be used; the message is one sentence that names the file and the remedy."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command's body; an `InputError` becomes its sentence on stderr and exit code 2.

    So does an `OSError` that nothing closer to the file has put into better words: names that are too long, folders
    that cannot be read.
    """
    # Names of files that are not UTF-8 can be printed, too.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_current_folder()
        command()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}); check the path and its permissions.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def _check_current_folder() -> None:
    """Refuse a folder that was removed: no worker process starts there, and not every library loads."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("The current folder does not exist any more; change to another one.") from None


def _fail(sentence: str) -> None:
    print(f"Error: {sentence}", file=sys.stderr)
    sys.exit(2)
