"""The arguments and the environment of ``rl_nnunet_plan_and_preprocess``, refused before anything is computed."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from rl_nnunet.command_line import make_parser
from rl_nnunet.environment import data_folder
from rl_nnunet.errors import InputError

if TYPE_CHECKING:
    import argparse

DEFAULT_CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
DEFAULT_PROCESSES = {"2d": 8, "3d_fullres": 4, "3d_lowres": 8}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: nnU-Net's flags and their defaults, with classes of ours for ``-pl`` and ``-fpe``."""
    parser = make_parser(
        "rl_nnunet_plan_and_preprocess",
        "Extract the fingerprint of data sets, plan the network and preprocess. The flags are those of "
        "nnUNetv2_plan_and_preprocess; classes are looked for in rl_nnunet first, then in nnunetv2.",
    )
    add = parser.add_argument
    add("-d", nargs="+", type=int, required=True, help="IDs of the data sets, for example 2 4 5")
    _add_fingerprint_arguments(parser)
    _add_planning_arguments(parser)
    add("--no_pp", action="store_true", help="extract the fingerprint and plan only; do not preprocess")
    add(
        "-c",
        nargs="+",
        help="configurations to preprocess (default: 2d 3d_fullres 3d_lowres, as far as they are planned)",
    )
    add(
        "-np",
        type=int,
        nargs="+",
        help="number of processes for preprocessing: one, or one per configuration (default: 4; 2d and 3d_lowres 8)",
    )
    add("--verbose", action="store_true", help="print what nnU-Net prints, instead of keeping it in a file")
    add("--no_pbar", action="store_true", help="no progress bars")
    return parser


def _add_fingerprint_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-fpe",
        default="PresentChannelsFingerprintExtractor",
        help="class of the fingerprint extractor (default: %(default)s)",
    )
    add("-npfp", type=int, default=8, help="number of processes for fingerprint extraction (default: %(default)s)")
    add("--verify_dataset_integrity", action="store_true", help="check the data set first; worth doing once")
    add(
        "--clean",
        action="store_true",
        help="extract the fingerprint anew, even if it is of the files that are there",
    )


def _add_planning_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-pl", default="RLXAlignPlanner", help="class of the planner (default: %(default)s)")
    add(
        "-gpu_memory_target",
        type=float,
        help="GPU memory to plan for, in GB (default: the planner's own)",
    )
    add("-preprocessor_name", default="DefaultPreprocessor", help="class of the preprocessor (default: %(default)s)")
    add(
        "-overwrite_target_spacing",
        nargs="+",
        help="target spacing of 3d_fullres and 3d_cascade_fullres in mm, three numbers (default: as planned)",
    )
    add(
        "-overwrite_plans_name",
        help="name for the plans, to be given to training with -p (default: the planner's own)",
    )
    add(
        "--fast_resampling",
        nargs="?",
        choices=("all", "export"),
        const="all",
        help="resample with torch instead of scipy, and end the name of the plans with _fast; export: predictions "
        "only, so that data, training and names stay as they are (the flag alone: %(const)s)",
    )


# Below, patches shrink to a few voxels; from 1e-5 on, nnU-Net's planner ends in a traceback, and below 0 never.
SMALLEST_MEMORY_TARGET_GB = 0.01
LARGEST_MEMORY_TARGET_GB = 10_000
# Of -overwrite_plans_name: the results folder is called TRAINER__PLANS__CONFIGURATION, and 255 bytes are allowed.
LONGEST_NAME = 100
FAST_SUFFIX = "_fast"
"""Of the names of plans with --fast_resampling; in those of their preprocessed data, before the configuration."""
# Other files of nnUNet_preprocessed/DATASET.
RESERVED_NAMES = ("dataset", "dataset_fingerprint", "splits_final")


def check_environment() -> None:
    """Refuse an environment in which nnU-Net would end in a traceback."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        data_folder(name)
    if os.environ.get("nnUNet_results"):
        data_folder("nnUNet_results")
    workers = os.environ.get("nnUNet_n_proc_DA")
    if workers is not None and not _is_count(workers):
        raise InputError(
            f"nnUNet_n_proc_DA={workers} crashes nnU-Net's planner, which takes it for a number of threads: unset it "
            "for planning, or set it to 1 or more."
        )
    processes = os.environ.get("nnUNet_def_n_proc")
    if processes is not None and not _is_count(processes):
        raise InputError(f"nnUNet_def_n_proc={processes} is no number of processes; unset it, or set it to 1 or more.")


def _is_count(text: str) -> bool:
    text = text.strip()
    return text.isascii() and text.isdigit() and int(text) > 0


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse arguments that nnU-Net would stumble over, over some of them only after an hour of work."""
    if args.c is not None and len(set(args.c)) < len(args.c):
        raise InputError(f"-c names a configuration twice: {' '.join(args.c)}; name each once.")
    configurations = args.c or DEFAULT_CONFIGURATIONS
    if args.np is not None and len(args.np) not in (1, len(configurations)):
        raise InputError(
            f"-np takes one number, or one per configuration of -c ({len(configurations)}), not {len(args.np)}."
        )
    if min([args.npfp, *(args.np or ())]) < 1:
        raise InputError("-np and -npfp must be 1 or more.")
    memory = args.gpu_memory_target
    if memory is not None and not SMALLEST_MEMORY_TARGET_GB <= memory <= LARGEST_MEMORY_TARGET_GB:
        raise InputError(
            f"-gpu_memory_target takes the memory of your GPU in GB, {SMALLEST_MEMORY_TARGET_GB} or more, not "
            f"{memory:g}."
        )
    _check_spacing(args.overwrite_target_spacing)
    _check_plans_name(args.overwrite_plans_name)
    if args.fast_resampling != "all" and (args.overwrite_plans_name or "").endswith(FAST_SUFFIX):
        raise InputError(
            f"-overwrite_plans_name {args.overwrite_plans_name}: names that end in {FAST_SUFFIX} are of plans with "
            "--fast_resampling, whose preprocessed data would be mixed with these; choose another."
        )


def _check_spacing(spacing: list[str] | None) -> None:
    if spacing is None:
        return
    try:
        valid = len(spacing) == 3 and all(0 < float(value) < math.inf for value in spacing)
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"-overwrite_target_spacing takes three numbers above 0, not {' '.join(spacing)}.")


def _check_plans_name(name: str | None) -> None:
    """Refuse what is no plain name: it becomes a file and part of folders, which nnU-Net takes apart at ``__``."""
    if name is None:
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name) or "__" in name or name in RESERVED_NAMES:
        raise InputError(
            f"-overwrite_plans_name takes a plain name of letters, digits, '_', '-', '+' and '.', without '__', such "
            f"as MyPlans, not {name!r}."
        )
    if len(name) > LONGEST_NAME:
        raise InputError(f"-overwrite_plans_name takes at most {LONGEST_NAME} characters, not {len(name)}.")
