"""nnU-Net's curves of a training, from its text log: a checkpoint would have to be unpickled for them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

# "2026-11-26 20:33:02.766645: train_loss 2.3177"
LINE = re.compile(r"^\S+ \S+: (Epoch time:|Epoch|train_loss|val_loss|Pseudo dice) (.+?)\s*$", re.MULTILINE)
# Also in "[np.float32(0.0256), ...]", without the 32.
NUMBER = re.compile(r"(?<![\w.])(?:nan|-?\d+\.?\d*(?:e[+-]?\d+)?)(?![\w(])")
WHOLE = re.compile(r"\d+")
PSEUDO_DICE, SECONDS = "mean pseudo Dice", "seconds"
COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "Pseudo dice": PSEUDO_DICE,
    "Epoch time:": SECONDS,
}


def read_training_log(fold: Path, *, last_run: bool = False) -> pd.DataFrame:
    """Return the values of each epoch in the folder of a fold; empty without a log.

    A training that was resumed has several logs, and may have run an epoch twice; the later one counts. With
    `last_run`, only the last log is read.
    """
    values: dict[int, dict[str, float]] = {}
    # By their times, whose months and days nnU-Net writes without leading zeros.
    files = sorted(fold.glob("training_log_*.txt"), key=lambda file: [int(part) for part in WHOLE.findall(file.stem)])
    for file in files[-1:] if last_run else files:
        epoch = None
        for key, text in LINE.findall(file.read_text(encoding="utf-8", errors="replace")):
            numbers = pd.Series([float(number) for number in NUMBER.findall(text)], dtype=float)
            if key == "Epoch" and len(numbers):
                epoch = int(numbers[0])
            elif epoch is not None:
                values.setdefault(epoch, {})[COLUMNS[key]] = float(numbers.mean())
    return pd.DataFrame.from_dict(values, orient="index", columns=[*COLUMNS.values()]).sort_index()
