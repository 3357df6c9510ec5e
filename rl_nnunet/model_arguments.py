"""Command-line arguments that name a trained model, as nnU-Net's commands have them, and where to run it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

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


def add_devices_argument(parser: argparse._ActionsContainer, purpose: str) -> None:
    """Add ``--devices``, one or more, for what is done on each of them at a time."""
    parser.add_argument(
        "--devices",
        nargs="+",
        type=_device,
        metavar="DEVICE",
        help=f"{purpose}, one on each at a time: numbers of GPUs, such as 0 1 2 3, or cpu, such as cpu cpu",
    )


def devices_parser() -> argparse.ArgumentParser:
    """Return a parser of ``--devices`` alone, whose other arguments are those of a command on one device."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_devices_argument(parser, "")
    return parser


def _device(text: str) -> str:
    return text if text in ("cpu", "mps") else str(whole_number(0)(text))


def check_devices(devices: Sequence[str]) -> None:
    """Raise `InputError` if a device is not there: ``cpu``, ``mps``, ``cuda``, or the number of a GPU."""
    gpus = [int(device) for device in devices if device.isdigit()]
    for device in dict.fromkeys("cuda" if device.isdigit() else device for device in devices):
        check_device(device)
    if gpus:
        import torch

        if max(gpus) >= torch.cuda.device_count():
            raise InputError(
                f"--devices {max(gpus)}: there are {torch.cuda.device_count()} GPUs that torch can use, counted from "
                "0; correct it."
            )


def check_device(device: str) -> None:
    """Raise `InputError` if there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("-device cuda: there is no GPU that torch can use; add -device cpu.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("-device mps: torch finds no GPU of Apple's; add -device cpu.")
