"""The folds of a model as an array job of SLURM, each task one line of ``nnUNetv2_train``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rl_nnunet.environment import DATA_VARIABLES, SEED_VARIABLE, TRAINERS_VARIABLE
from rl_nnunet.errors import InputError
from rl_nnunet.fold_training import FoldTraining

TASK = "$SLURM_ARRAY_TASK_ID"
CORES = 12
"""nnU-Net's default number of background workers of a training."""
VARIABLES = (*DATA_VARIABLES, TRAINERS_VARIABLE, SEED_VARIABLE, "nnUNet_n_proc_DA", "nnUNet_compile")
"""What is written into the script, as far as it is set."""


def slurm_script(folds: Sequence[FoldTraining], flags: Sequence[str], devices: Sequence[str] | None) -> str:
    """Return a script for ``sbatch``.

    Parameters
    ----------
    folds : sequence of FoldTraining
        The folds, all of one model.
    flags : sequence of str
        Of ``nnUNetv2_train``.
    devices : sequence of str, optional
        ``cpu`` or GPUs, as many as may be at work at a time; without, SLURM decides.

    Raises
    ------
    InputError
        If there is nothing to train, or a fold has no number.
    """
    if not folds:
        raise InputError("All folds are finished; there is nothing to train.")
    if any(fold.fold == "all" for fold in folds):
        raise InputError("-f all has no number for an array job; leave it out, or give nnUNetv2_train to sbatch.")
    on_gpu = devices is None or "cpu" not in devices
    numbers = ",".join(fold.fold for fold in folds) + (f"%{len(devices)}" if devices else "")
    first = replace(folds[0], fold=TASK)
    command = [str(Path(sys.executable).with_name(first.words[0])), *first.words[1:]]
    words = [*command, "-device", "cuda" if on_gpu else "cpu", *flags]
    return "\n".join(
        [
            "#!/bin/bash",
            "# Add what the cluster asks for, such as time, memory and partition; then: sbatch THIS_FILE",
            f"#SBATCH --job-name={first.dataset.split('_')[0]}",
            f"#SBATCH --array={numbers}",
            f"#SBATCH --cpus-per-task={CORES}",
            *(["#SBATCH --gres=gpu:1"] if on_gpu else []),
            "",
            *(f"export {name}={shlex.quote(os.environ[name])}" for name in VARIABLES if os.environ.get(name)),
            "",
            " ".join(word if word == TASK else shlex.quote(word) for word in words),
        ]
    )
