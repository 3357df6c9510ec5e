"""``rl_nnunet_train_folds``: the folds of one model, one after the other on each of several GPUs or shares of the CPU.

Each fold is trained by ``nnUNetv2_train``, in a process of its own. With ``--slurm``, the command prints a script for a
cluster in the place of training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rl_nnunet.command_line import make_parser, whole_number
from rl_nnunet.errors import InputError, run_command
from rl_nnunet.model_arguments import add_devices_argument, check_devices

if TYPE_CHECKING:
    from pathlib import Path

    from rl_nnunet.fold_training import FoldTraining


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_train_folds``."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.devices is None and not args.slurm:
        parser.error("--devices is needed: numbers of GPUs, or cpu once for each training at a time")
    run_command(lambda: _run(args))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what nnUNetv2_train has, too, is called as there."""
    parser = make_parser(
        "rl_nnunet_train_folds",
        "Train the folds of a model by nnUNetv2_train, one at a time on each device, with one table of progress.",
    )
    add = parser.add_argument
    add("-d", dest="dataset", required=True, metavar="DATASET", help="name or ID of the data set")
    add("-c", dest="configuration", required=True, metavar="CONFIGURATION", help="such as 3d_fullres")
    add("-tr", dest="trainer", default="nnUNetTrainer", metavar="TRAINER", help="default: %(default)s")
    add("-p", dest="plans", default="nnUNetPlans", metavar="PLANS", help="default: %(default)s")
    add("-f", dest="folds", nargs="+", type=_fold, default=list("01234"), metavar="FOLD", help="default: all five")
    add_devices_argument(parser, "where to train folds")
    add(
        "--threads",
        type=whole_number(1),
        metavar="N",
        help="cores of each training on the CPU (default: an equal share for each)",
    )
    add("--npz", action="store_true", help="also write the probabilities of the validation, as ensembles need them")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--c", action="store_true", help="skip finished folds, and go on with those that are started")
    existing.add_argument("--overwrite", action="store_true", help="train folds anew that are trained or started")
    add("--slurm", action="store_true", help="train nothing, and print a script for SLURM's sbatch")
    return parser


def _fold(text: str) -> str:
    return text if text == "all" else str(whole_number(0)(text))


def _run(args: argparse.Namespace) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    import os

    from rl_nnunet.environment import exports

    # nnU-Net finds our trainers without rl_nnunet_env.
    os.environ.update(exports(os.environ))

    from rl_nnunet.training.slurm import slurm_script

    folds = _trainings(args)
    _check(folds, args)
    to_do = [fold for fold in folds if not (args.c and fold.is_finished(npz=args.npz))]
    if args.slurm:
        print(slurm_script(to_do, _stock_flags(args), args.devices))
        return
    check_devices(args.devices)
    _check_trainer(args.trainer)
    _train(folds, to_do, args)


def _stock_flags(args: argparse.Namespace) -> list[str]:
    return [*(["--npz"] if args.npz else []), *(["--c"] if args.c else [])]


def _trainings(args: argparse.Namespace) -> list[FoldTraining]:
    """Return the folds; their plans exist.

    Raises
    ------
    InputError
        If there is no such data set, plans or configuration.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    from rl_nnunet.fold_training import FoldTraining

    try:
        dataset = maybe_convert_to_dataset_name(args.dataset)
    except (RuntimeError, ValueError):
        raise InputError(
            f"-d {args.dataset}: there is no data set of this name or ID, or several; correct it."
        ) from None
    plans = _read_plans(_preprocessed(dataset) / f"{args.plans}.json")
    known = [name for name in plans.get("configurations", {})]
    if args.configuration not in known:
        raise InputError(
            f"-c {args.configuration}: {args.plans} of {dataset} has {', '.join(known) or 'no configuration'}; correct "
            "it."
        )
    return [
        FoldTraining(dataset, args.configuration, args.trainer, args.plans, fold) for fold in dict.fromkeys(args.folds)
    ]


def _preprocessed(dataset: str) -> Path:
    from rl_nnunet.environment import data_folder

    return data_folder("nnUNet_preprocessed") / dataset


def _read_plans(file: Path) -> dict[str, Any]:
    from rl_nnunet.branches import read_dataset_json

    if not file.is_file():
        raise InputError(f"There are no plans {file}; plan the data set first, or correct -p.")
    return read_dataset_json(file)


def _check(folds: Sequence[FoldTraining], args: argparse.Namespace) -> None:
    """Raise `InputError` if something is there that would be lost."""
    there = [fold for fold in folds if fold.is_started()]
    if there and not (args.c or args.overwrite):
        raise InputError(
            f"{there[0].folder} holds a training already; add --c to go on with what is missing, or --overwrite to "
            "train anew."
        )


def _check_trainer(name: str) -> None:
    """Refuse a trainer that nnU-Net would not find, once and not in every fold."""
    import contextlib
    import io

    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it looks
            recursive_find_trainer_class_by_name(name)
    except (RuntimeError, AssertionError):  # the latter for a class that is no trainer
        raise InputError(f"-tr {name}: nnU-Net finds no such trainer; check its spelling.") from None


def _train(folds: Sequence[FoldTraining], to_do: Sequence[FoldTraining], args: argparse.Namespace) -> None:
    from rl_nnunet.command_queue import Job, places, run_jobs
    from rl_nnunet.locks import only_run_in
    from rl_nnunet.training.folds_table import FoldsTable

    def job_of(fold: FoldTraining) -> Job:
        def words() -> tuple[Sequence[str], Sequence[str]]:
            if args.overwrite:
                fold.forget()
            return fold.words, [*fold.resuming_flags(), *(["--npz"] if args.npz else [])]

        return Job(f"fold {fold.fold}", words, fold.output, lambda: fold.is_finished(npz=False))

    jobs = {fold: job_of(fold) for fold in to_do}
    splits = _preprocessed(folds[0].dataset) / "splits_final.json"
    with ExitStack() as locks:
        for fold in to_do:
            refusal = f"Another run is training {fold.folder}; wait for it to end, or leave the fold out with -f."
            locks.enter_context(only_run_in(fold.folder, refusal))
        table = FoldsTable([(fold, jobs.get(fold)) for fold in folds])
        # nnU-Net makes the folds in its first training, if the data set has none.
        failed = run_jobs(
            list(jobs.values()), places(args.devices, args.threads), watch=table.show,
            may_run_together=lambda: _is_whole(splits),
        )  # fmt: skip
        table.show(last=True)
    if failed:
        reasons = "; ".join(f"{job.name}, {job.log}, which ends in: {job.last_words()}" for job in failed)
        raise InputError(f"{len(failed)} of {len(jobs)} folds failed; mend it, and go on with --c. ({reasons})")


def _is_whole(file: Path) -> bool:
    """Tell whether a JSON file is there, and not just being written."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    main()
