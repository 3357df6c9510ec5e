"""Converting all items and saying in one sentence which of them cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from rl_nnunet.errors import InputError
from rl_nnunet.parallel import work_on_all


class Report(Protocol):
    """What became of one item: its name, and the sentence if it cannot be used.

    The sentence is no exception, because that would stop the other items.
    """

    error: str

    @property
    def name(self) -> str:
        """The item's name."""


Item = TypeVar("Item")
AnyReport = TypeVar("AnyReport", bound=Report)


def convert_all(convert: Callable[[Item], AnyReport], items: Sequence[Item], processes: int) -> list[AnyReport]:
    """Convert all items and return their reports, in the order of the items.

    Parameters
    ----------
    convert : callable
        Converts one item and returns its report; it must be picklable.
    items : sequence
        What to convert.
    processes : int
        Number of processes; 1 does the work in this one.

    Raises
    ------
    InputError
        If an item cannot be used: the sentence on the first one, and which others cannot.
    """
    reports = work_on_all(convert, items, processes, "Converting")
    bad = [report for report in reports if report.error]
    if bad:
        others = ", ".join(report.name for report in bad[1:4]) + (", ..." if len(bad) > 4 else "")
        raise InputError(bad[0].error + (f" (Unusable, too: {len(bad) - 1} more, {others}.)" if others else ""))
    return reports
