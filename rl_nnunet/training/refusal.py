"""How a trainer refuses: nnU-Net's commands print what a `SystemExit` says, and exit with 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rl_nnunet.errors import InputError


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """End an `InputError` in its sentence, with which nnU-Net's commands exit."""
    try:
        yield
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None
