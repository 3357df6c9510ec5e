"""Who builds a classifier says that classes are expected of it.

nnU-Net's predictor does not: it builds the network of whatever model it is given, and would segment with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from rl_nnunet.errors import InputError

_expected = ContextVar("classes_are_expected", default=False)


@contextlib.contextmanager
def expecting_classes() -> Iterator[None]:
    """Let classifiers be built."""
    token = _expected.set(True)
    try:
        yield
    finally:
        _expected.reset(token)


def check_classes_are_expected() -> None:
    """Raise `InputError` outside of `expecting_classes`."""
    if not _expected.get():
        raise InputError(
            "This model classifies cases and does not segment them; run rl_nnunet_classify, which takes the same -d, "
            "-c, -tr, -p and -f."
        )
