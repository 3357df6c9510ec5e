"""One way to tell a user that an input cannot be used: one sentence, no traceback, a non-zero exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """An input that cannot be used; the message is one sentence that names the file and the remedy."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command's body; an `InputError` becomes its sentence on stderr and exit code 2."""
    try:
        command()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
