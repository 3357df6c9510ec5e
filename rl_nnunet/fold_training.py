"""A fold that ``nnUNetv2_train`` trains: its words, its folder, and how far it is, by nnU-Net's own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_nnunet.environment import data_folder

OUTPUT_FILE = "nnUNetv2_train.log"
"""In the folder of a fold: what the command printed, in all runs."""
FINAL_CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class FoldTraining:
    """A training of one fold.

    Parameters
    ----------
    dataset : str
        nnU-Net's name of the data set.
    configuration, trainer, plans : str
        As ``nnUNetv2_train`` takes them.
    fold : str
        Its number, or ``all``.
    """

    dataset: str
    configuration: str
    trainer: str
    plans: str
    fold: str

    @property
    def folder(self) -> Path:
        """Where nnU-Net writes it."""
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        return data_folder("nnUNet_results") / self.dataset / model / f"fold_{self.fold}"

    @property
    def output(self) -> Path:
        """The file with what the command prints; its folder is made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / OUTPUT_FILE

    @property
    def words(self) -> list[str]:
        """The command, without its flags."""
        return [
            "nnUNetv2_train", self.dataset, self.configuration, self.fold, "-tr", self.trainer, "-p", self.plans,
        ]  # fmt: skip

    def is_started(self) -> bool:
        """Tell whether there is something to go on from, or to lose."""
        return any(self.folder.glob("checkpoint_*.pth"))

    def is_trained(self) -> bool:
        """Tell whether all epochs are done."""
        return (self.folder / FINAL_CHECKPOINT).is_file()

    def is_finished(self, *, npz: bool) -> bool:
        """Tell whether it is trained and validated, with probabilities if they are asked for."""
        validation = self.folder / "validation"
        validated = (validation / "summary.json").is_file()
        return self.is_trained() and validated and (not npz or any(validation.glob("*.npz")))

    def resuming_flags(self) -> Sequence[str]:
        """Return nnU-Net's flags to go on from where it is."""
        if self.is_trained():
            return ["--val"]
        return ["--c"] if self.is_started() else []

    def forget(self) -> None:
        """Remove what nnU-Net, and the table, would take for the state of a training that begins anew."""
        stale = [*self.folder.glob("checkpoint_*.pth"), *self.folder.glob("training_log_*.txt")]
        for file in (*stale, self.folder / "debug.json", self.folder / "validation" / "summary.json"):
            file.unlink(missing_ok=True)

    def epochs(self) -> int | None:
        """Return how many epochs the training has; None before nnU-Net has written it down."""
        try:
            return int(json.loads((self.folder / "debug.json").read_text(encoding="utf-8"))["num_epochs"])
        except (OSError, ValueError, KeyError):
            return None
