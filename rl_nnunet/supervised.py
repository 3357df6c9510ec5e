"""``python -m rl_nnunet.supervised COMMAND ...``: a command of this environment, in its own words, run by another one.

It does what the command does, and two things more:

- it ends when whoever started it ends, however that is: its standard input is a pipe that nobody writes to and whose
  other end goes with its owner;
- it finds as many cores as ``PYTHON_CPU_COUNT`` says, so that several commands can share a machine:
  ``nnUNetv2_train -device cpu`` asks torch for as many threads as there are cores, whatever ``OMP_NUM_THREADS`` says.
  Python itself knows the variable from 3.13 on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib.metadata import entry_points

CPU_COUNT_VARIABLE = "PYTHON_CPU_COUNT"


def main() -> None:
    """Run the command that the arguments name."""
    name, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cores = os.environ.get(CPU_COUNT_VARIABLE)
    if cores:
        os.cpu_count = lambda: int(cores)
    (command,) = entry_points(group="console_scripts", name=name)
    sys.argv = [name, *arguments]
    sys.exit(command.load()())


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end this process and its workers, which are in its group."""
    while os.read(0, 1):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
