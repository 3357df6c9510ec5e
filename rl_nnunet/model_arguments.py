"""Command-line arguments that name a trained model and where to run it, as nnU-Net's commands have them."""

from __future__ import annotations

import argparse

from rl_nnunet.command_line import path_argument, whole_number
from rl_nnunet.errors import InputError


def add_model_arguments(
    parser: argparse.ArgumentParser, default_trainer: str = "nnUNetTrainer", default_plans: str = "nnUNetPlans"
) -> None:
    """Add ``-m`` or ``-d``, with ``-tr``, ``-p``, ``-c``, ``-f`` and ``-chk``."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-m", dest="model", type=path_argument, metavar="MODEL", help="folder of the model")
    which.add_argument("-d", dest="dataset", metavar="DATASET", help="name or ID of the model's data set, with -c")
    add = parser.add_argument
    add("-tr", dest="trainer", default=default_trainer, metavar="TRAINER", help="with -d (default: %(default)s)")
    add("-p", dest="plans", default=default_plans, metavar="PLANS", help="with -d (default: %(default)s)")
    add("-c", dest="configuration", metavar="CONFIGURATION", help="with -d, such as 3d_fullres")
    add("-f", dest="folds", nargs="+", type=_fold, default=[0, 1, 2, 3, 4], metavar="FOLD", help="default: all five")
    add("-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="FILE", help="default: %(default)s")


def _fold(text: str) -> int | str:
    return text if text == "all" else whole_number(0)(text)


def check_device(device: str) -> None:
    """Raise `InputError` if there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("-device cuda: there is no GPU that torch can use; add -device cpu.")
