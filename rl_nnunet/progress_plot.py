"""The second progress picture: what the branches and the agents did, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rl_nnunet.files import new_file


class Panel(NamedTuple):
    """One panel of the picture: its title, what the log keys that it shows begin with, and its axis label."""

    title: str
    prefixes: tuple[str, ...]
    label: str


def plot_progress(log: dict[str, Sequence[Any]], panels: Sequence[Panel], file: str) -> None:
    """Draw the curves of our log keys.

    Parameters
    ----------
    log : dict
        nnU-Net's local log, one value per epoch.
    panels : sequence of Panel
        What to draw, from top to bottom.
    file : str
        Picture to write; replaced in one step.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    # nnU-Net's own picture sets a style and a font size for the whole process.
    with plt.rc_context(matplotlib.rcParamsDefault):
        figure, axes = plt.subplots(len(panels), 1, figsize=(10, 4 * len(panels)), sharex=True, layout="constrained")
        for axis, (title, prefixes, label) in zip(axes, panels, strict=True):
            for key in (k for prefix in prefixes for k in log if k.startswith(prefix)):
                axis.plot(log[key], label=key, marker="." if len(log[key]) < 50 else None)
            axis.set(title=title, ylabel=label)
            if axis.lines:
                axis.legend(fontsize="small", ncols=2)
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel("epoch")
        with new_file(file) as unfinished:
            figure.savefig(unfinished, dpi=80)
    plt.close(figure)
