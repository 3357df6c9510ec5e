"""The table of folds that are being trained, from nnU-Net's own logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from rl_nnunet.command_line import text_table
from rl_nnunet.command_queue import RUNNING, Job
from rl_nnunet.fold_training import FoldTraining
from rl_nnunet.training_log import PSEUDO_DICE, SECONDS, read_training_log

HEADER = ("fold", "device", "epoch", "pseudo Dice", "time left", "state")
FINISHED = "finished before"
NOTHING = "–"
RECENT = 10
"""Epochs whose mean duration tells how long those that are left take."""
ON_SCREEN_S, IN_FILE_S = 2.0, 600.0
"""How often the table is shown anew: in its own place on a terminal, else one below the other."""
UP, CLEAR = "\x1b[{}F", "\x1b[J"


class FoldsTable:
    """Shows how far the trainings are.

    Parameters
    ----------
    folds : sequence of pair
        Each fold and its job, or None if there is nothing to do.
    """

    def __init__(self, folds: Sequence[tuple[FoldTraining, Job | None]]) -> None:
        self.folds = folds
        self._in_place = sys.stdout.isatty()
        self._shown_at, self._table = float("-inf"), ""
        self._states: list[str] = []

    def show(self, *, last: bool = False) -> None:
        """Print the table, if it is time to or a state has changed.

        Parameters
        ----------
        last : bool
            Print it as it is at the end, if it has changed at all.
        """
        states = [job.state for _, job in self.folds if job is not None]
        due = time.monotonic() - self._shown_at > (ON_SCREEN_S if self._in_place else IN_FILE_S)
        if not (due or last or states != self._states):
            return
        self._shown_at, self._states = time.monotonic(), states
        table = self.text()
        if last and table == self._table:
            return
        erase = UP.format(self._table.count("\n") + 1) + CLEAR if self._in_place and self._table else ""
        print(erase + table, end="\n" if self._in_place else "\n\n", flush=True)
        self._table = table

    def text(self) -> str:
        """Return the table."""
        return text_table([HEADER, *(_row(fold, job) for fold, job in self.folds)])


def _row(fold: FoldTraining, job: Job | None) -> tuple[str, ...]:
    # A training that was killed may have been behind its last log when it went on.
    now = read_training_log(fold.folder, last_run=True)
    log = now if len(now) else read_training_log(fold.folder)
    total, done = fold.epochs(), int(log.index.max()) + 1 if len(log) else 0
    dice = log[PSEUDO_DICE].dropna()
    running = job is not None and job.state == RUNNING
    validating = running and fold.is_trained()
    left = NOTHING
    if running and not validating and total is not None and log[SECONDS].notna().any():
        left = str(timedelta(seconds=round(log[SECONDS].dropna().tail(RECENT).mean() * (total - done))))
    state = FINISHED if job is None else "validating" if validating else job.state
    return (
        fold.fold,
        (job.place if job is not None else "") or NOTHING,
        f"{done}/{'?' if total is None else total}" if done or running else NOTHING,
        f"{dice.iloc[-1]:.4f}" if len(dice) else NOTHING,
        left,
        state,
    )
