"""``rl_nnunet_plan_and_preprocess``: nnU-Net's command of that name, with our planner and fingerprint extractor.

nnU-Net's command finds planners and extractors only inside nnunetv2; its Python functions take any class. This is the
same command with the same flags, on top of these functions, that looks for classes here first.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError, run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PROCESSES = {"2d": 8, "3d_fullres": 4, "3d_lowres": 8}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: nnU-Net's flags and their defaults, with classes of ours for ``-pl`` and ``-fpe``."""
    parser = argparse.ArgumentParser(
        prog="rl_nnunet_plan_and_preprocess",
        description="Extract the fingerprint of data sets, plan the network and preprocess. The flags are those of "
        "nnUNetv2_plan_and_preprocess; classes are looked for in rl_nnunet first, then in nnunetv2.",
    )
    add = parser.add_argument
    add("-d", nargs="+", type=int, required=True, help="IDs of the data sets, for example 2 4 5")
    _add_fingerprint_arguments(parser)
    _add_planning_arguments(parser)
    add("--no_pp", action="store_true", help="extract the fingerprint and plan only; do not preprocess")
    add(
        "-c",
        default=["2d", "3d_fullres", "3d_lowres"],
        nargs="+",
        help="configurations to preprocess (default: 2d 3d_fullres 3d_lowres)",
    )
    add(
        "-np",
        type=int,
        nargs="+",
        help="number of processes for preprocessing: one, or one per configuration (default: 4; 2d and 3d_lowres 8)",
    )
    add("--verbose", action="store_true", help="print a lot")
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
        help="extract the fingerprint anew; needed after a change of the data set",
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


def find_class(name: str, base: type, nnunet_package: str) -> type:
    """Return a class by its name, from ``rl_nnunet.planners`` or else from a package of nnunetv2.

    Parameters
    ----------
    name : str
        Name of the class.
    base : type
        What it has to be a subclass of.
    nnunet_package : str
        The package inside nnunetv2 to search, for example ``"experiment_planning"``.

    Raises
    ------
    InputError
        If there is no such class.
    """
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    import rl_nnunet.planners

    places = {
        "rl_nnunet.planners": rl_nnunet.planners.__path__[0],
        f"nnunetv2.{nnunet_package}": os.path.join(nnunetv2.__path__[0], nnunet_package),
    }
    for package, folder in places.items():
        found = recursive_find_python_class(folder, name, current_module=package)
        if isinstance(found, type) and issubclass(found, base):
            return found
    raise InputError(f"There is no {base.__name__} called {name!r} in {' or '.join(places)}: check its spelling.")


def check_environment() -> None:
    """Refuse an environment in which nnU-Net would end in a traceback, before anything is computed."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        if not os.environ.get(name):
            raise InputError(f'{name} is not set: export it, or run eval "$(rl_nnunet_env --root FOLDER)".')
    workers = os.environ.get("nnUNet_n_proc_DA")
    if workers is not None and not (workers.strip().isdigit() and int(workers) > 0):
        raise InputError(
            f"nnUNet_n_proc_DA={workers} crashes nnU-Net's planner, which takes it for a number of threads: unset it "
            "for planning, or set it to 1 or more."
        )


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse counts that nnU-Net would stumble over, some of them only after an hour of work."""
    if args.np is not None and len(args.np) not in (1, len(args.c)):
        raise InputError(f"-np takes one number, or one per configuration of -c ({len(args.c)}), not {len(args.np)}.")
    if min([args.npfp, *(args.np or ())]) < 1:
        raise InputError("-np and -npfp must be 1 or more.")
    spacing = args.overwrite_target_spacing
    if spacing is not None:
        try:
            valid = len(spacing) == 3 and all(float(value) > 0 for value in spacing)
        except ValueError:
            valid = False
        if not valid:
            raise InputError(f"-overwrite_target_spacing takes three numbers above 0, not {' '.join(spacing)}.")


def dataset_name(dataset_id: int) -> str:
    """Return the folder name of a data set that is there in nnU-Net's raw format.

    Raises
    ------
    InputError
        If there is none, or more than one, with this ID.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    raw = os.environ["nnUNet_raw"]
    names = list(find_candidate_datasets(dataset_id))
    if len(names) > 1:
        raise InputError(f"More than one data set has the ID {dataset_id}: {', '.join(names)}; rename all but one.")
    if not names or not Path(raw, names[0], "dataset.json").is_file():
        raise InputError(f"There is no data set with the ID {dataset_id} and a dataset.json in nnUNet_raw={raw}.")
    return str(names[0])


def print_plans(name: str, plans_identifier: str) -> None:
    """Print a table of the planned configurations."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans_file = Path(os.environ["nnUNet_preprocessed"], name, f"{plans_identifier}.json")
    plans = PlansManager(str(plans_file))
    print(f"\n{name}, {plans_identifier}")
    print(f"{'configuration':<20}{'patch size':>16}{'batch size':>12}  spacing (mm)")
    for configuration in plans.available_configurations:
        plan = plans.get_configuration(configuration)
        patch_size = " x ".join(str(size) for size in plan.patch_size)
        spacing = " x ".join(f"{value:.3g}" for value in plan.spacing)
        print(f"{configuration:<20}{patch_size:>16}{plan.batch_size:>12}  {spacing}")


def plan_and_preprocess(args: argparse.Namespace) -> None:
    """Do what the parsed arguments say, in the order of nnU-Net's command: a stage for all data sets, then the next."""
    check_environment()
    check_numbers(args)
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        DatasetFingerprintExtractor,
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    names = {dataset: dataset_name(dataset) for dataset in args.d}
    extractor = find_class(args.fpe, DatasetFingerprintExtractor, "experiment_planning")
    planner = find_class(args.pl, ExperimentPlanner, "experiment_planning")
    find_class(args.preprocessor_name, DefaultPreprocessor, "preprocessing")

    for dataset in names:
        extract_fingerprint_dataset(
            dataset,
            extractor,
            args.npfp,
            args.verify_dataset_integrity,
            args.clean,
            args.verbose,
            show_progress_bar=not args.no_pbar,
        )
    plans = {}
    for dataset in names:
        _, plans[dataset] = plan_experiment_dataset(
            dataset,
            planner,
            args.gpu_memory_target,
            args.preprocessor_name,
            args.overwrite_target_spacing,
            args.overwrite_plans_name,
        )
    if not args.no_pp:
        processes = args.np or [DEFAULT_PROCESSES.get(configuration, 4) for configuration in args.c]
        for dataset, identifier in plans.items():
            preprocess_dataset(dataset, identifier, args.c, processes, args.verbose, show_progress_bar=not args.no_pbar)
    for dataset, identifier in plans.items():
        print_plans(names[dataset], identifier)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_plan_and_preprocess``."""
    args = build_parser().parse_args(arguments)
    run_command(lambda: plan_and_preprocess(args))


if __name__ == "__main__":
    main()
