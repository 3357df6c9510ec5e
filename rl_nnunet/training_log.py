"""nnU-Net's curves of a training, from its text log: a checkpoint would have to be unpickled for them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

# "2026-11-26 20:33:02.766645: train_loss 2.3177"
LINE = re.compile(r"^\S+ \S+: (Epoch|train_loss|val_loss|Pseudo dice) (.+?)\s*$", re.MULTILINE)
# Also in "[np.float32(0.0256), ...]", without the 32.
NUMBER = re.compile(r"(?<![\w.])(?:nan|-?\d+\.?\d*(?:e[+-]?\d+)?)(?![\w(])")
COLUMNS = {"train_loss": "training loss", "val_loss": "validation loss", "Pseudo dice": "mean pseudo Dice"}


def read_training_log(fold: Path) -> pd.DataFrame:
    """Return the values of each epoch in the folder of a fold; empty without a log.

    A training that was resumed has several logs, and may have run an epoch twice; the later one counts.
    """
    values: dict[int, dict[str, float]] = {}
    for file in sorted(fold.glob("training_log_*.txt")):
        epoch = None
        for key, text in LINE.findall(file.read_text(encoding="utf-8", errors="replace")):
            numbers = pd.Series([float(number) for number in NUMBER.findall(text)], dtype=float)
            if key == "Epoch" and len(numbers):
                epoch = int(numbers[0])
            elif epoch is not None:
                values.setdefault(epoch, {})[COLUMNS[key]] = float(numbers.mean())
    return pd.DataFrame.from_dict(values, orient="index", columns=[*COLUMNS.values()]).sort_index()
