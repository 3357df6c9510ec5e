"""``rl_nnunet_plan_and_preprocess``: nnU-Net's command of that name, with our planner and fingerprint extractor.

nnU-Net's command finds planners and extractors only inside nnunetv2; its Python functions take any class. This is the
same command with the same flags, on top of these functions, that looks for classes here first.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_nnunet.errors import InputError, run_command
from rl_nnunet.locks import only_run_in
from rl_nnunet.planners.planning_arguments import (
    DEFAULT_CONFIGURATIONS,
    DEFAULT_PROCESSES,
    build_parser,
    check_arguments,
    check_environment,
)
from rl_nnunet.planners.planning_log import LOG_FILE, printing_to

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

FEWEST_VOXELS = 4
"""Along an axis: nnU-Net does not make feature maps smaller."""
MOST_VOXELS = 2**31


@dataclass
class Dataset:
    """A data set to plan for.

    Parameters
    ----------
    identifier : int
        nnU-Net's number of it.
    name : str
        Its folder name.
    dataset_json : dict
        The content of its ``dataset.json``.
    """

    identifier: int
    name: str
    dataset_json: dict[str, Any]

    @property
    def raw(self) -> Path:
        """Its folder in ``nnUNet_raw``."""
        return Path(os.environ["nnUNet_raw"], self.name)

    @property
    def preprocessed(self) -> Path:
        """Its folder in ``nnUNet_preprocessed``."""
        return Path(os.environ["nnUNet_preprocessed"], self.name)

    @property
    def ending(self) -> str:
        """The ending of its files."""
        return self.dataset_json["file_ending"]

    def files(self) -> dict[str, list[Path]]:
        """Return, per training case, its images and, last, its label."""
        from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

        cases = get_filenames_of_train_images_and_targets(str(self.raw), self.dataset_json)
        return {str(name): [Path(file) for file in (*case["images"], case["label"])] for name, case in cases.items()}


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
        if isinstance(found, type) and issubclass(found, base) and not is_abstract(found):
            return found
    raise InputError(f"There is no {base.__name__} called {name!r} in {' or '.join(places)}: check its spelling.")


def is_abstract(found: type) -> bool:
    """Tell whether a class leaves methods to its subclasses; nnU-Net's base classes do not refuse to be made."""
    return any(getattr(getattr(found, name), "__isabstractmethod__", False) for name in dir(found))


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


def read_dataset(dataset_id: int) -> Dataset:
    """Return a data set that nnU-Net can work with, as far as names and ``dataset.json`` tell."""
    from rl_nnunet.planners.raw_data import check_raw_data

    name = dataset_name(dataset_id)
    return Dataset(dataset_id, name, check_raw_data(Path(os.environ["nnUNet_raw"], name)))


@contextlib.contextmanager
def in_preprocessed_folder(dataset: Dataset, *, verbose: bool) -> Iterator[None]:
    """Prepare the folder of a data set in ``nnUNet_preprocessed``, and keep other runs out of it for the block."""
    from rl_nnunet.branches import layout_from_dataset_json
    from rl_nnunet.planners.patients import copy_patients
    from rl_nnunet.planners.splits import check_splits

    dataset.preprocessed.mkdir(parents=True, exist_ok=True)
    refusal = f"Another run is planning {dataset.name} in {dataset.preprocessed}; wait for it to end."
    with only_run_in(dataset.preprocessed, refusal):
        check_splits(dataset.raw, dataset.preprocessed, list(dataset.files()))
        if layout_from_dataset_json(dataset.dataset_json).pairing == "unregistered":
            copy_patients(dataset.raw, dataset.preprocessed, dataset.files())
        if not verbose:
            (dataset.preprocessed / LOG_FILE).write_text("")
        yield


@contextlib.contextmanager
def nnunet_output(dataset: Dataset, flag: str, *, verbose: bool) -> Iterator[None]:
    """Keep what nnU-Net prints in the log, and put what its workers stumble over into a sentence."""
    with printing_to(dataset.preprocessed / LOG_FILE, verbose=verbose):
        try:
            yield
        except RuntimeError as error:
            if "sitk::ERROR" in str(error):  # from a worker; our own extractor looks at every file before
                found = str(error).rpartition("sitk::ERROR: ")[2]
                raise InputError(f"nnU-Net cannot read a file of {dataset.name} ({found}); fetch it again.") from None
            if "6 feet under" in str(error):
                raise InputError(
                    "A worker process was killed, most likely because the memory ran out; try again with a smaller "
                    f"{flag}."
                ) from None
            raise


def verify_integrity(dataset: Dataset, processes: int) -> None:
    """Run nnU-Net's check of the data set; what it finds becomes a sentence."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    try:
        verify_dataset_integrity(str(dataset.raw), processes)
    except (AssertionError, RuntimeError) as error:
        found = " ".join(str(error).split())
        raise InputError(f'{dataset.raw} does not pass --verify_dataset_integrity: "{found}".') from None


def check_target_spacing(dataset: Dataset, target: list[str] | None) -> None:
    """Refuse a target spacing that leaves nothing of the median case, or more than any memory holds."""
    if target is None:
        return
    import numpy as np

    fingerprint = json.loads((dataset.preprocessed / "dataset_fingerprint.json").read_text())
    spacing, shape = (np.median(fingerprint[name], 0) for name in ("spacings", "shapes_after_crop"))
    voxels = shape * spacing / np.array(target, float)
    if (voxels < np.minimum(shape, FEWEST_VOXELS)).any() or voxels.prod() > MOST_VOXELS:
        raise InputError(
            f"-overwrite_target_spacing {' '.join(target)} would leave {' x '.join(f'{v:.3g}' for v in voxels)} voxels "
            f"of the median case of {dataset.name} ({' x '.join(f'{v:.0f}' for v in shape)} at "
            f"{' x '.join(f'{v:.3g}' for v in spacing)} mm); give a spacing in mm near its own."
        )


def check_known(dataset: Dataset, configurations: Sequence[str]) -> None:
    """Refuse a configuration that no planner makes and that nobody has added to plans, before the long work."""
    from rl_nnunet.planners.preprocessed_data import all_plans

    known = {*DEFAULT_CONFIGURATIONS, "3d_cascade_fullres"}
    known.update(name for plans in all_plans(dataset.preprocessed).values() for name in plans["configurations"])
    unknown = [name for name in configurations if name not in known]
    if unknown:
        raise InputError(f"There is no configuration {unknown[0]!r}; -c takes {', '.join(sorted(known))}.")


def planned_processes(args: argparse.Namespace, dataset: Dataset, plans_name: str) -> dict[str, int]:
    """Return the configurations to preprocess and the number of processes for each.

    Raises
    ------
    InputError
        If one that was asked for is not in the plans; of the default ones, those are left out.
    """
    from rl_nnunet.planners.preprocessed_data import all_plans

    planned = all_plans(dataset.preprocessed)[plans_name]["configurations"]
    names = args.c or DEFAULT_CONFIGURATIONS
    absent = [name for name in names if name not in planned]
    if absent and args.c:
        raise InputError(
            f"{plans_name} of {dataset.name} has no configuration {absent[0]}, only {', '.join(planned)}: the planner "
            "has found no use for it; leave it out of -c."
        )
    numbers = args.np or [DEFAULT_PROCESSES.get(name, 4) for name in names]
    numbers = numbers * len(names) if len(numbers) == 1 else numbers
    return {name: number for name, number in zip(names, numbers, strict=True) if name in planned}


def put_aside_half_plans(dataset: Dataset, plans_name: str | None) -> None:
    """Rename plans that a killed run has left half written, or that somebody has edited: nnU-Net would read them."""
    for file in dataset.preprocessed.glob(f"{plans_name or '*'}.json"):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            aside = file.with_name(f"{file.name}.broken")
            print(f"Notice: {file} is not valid JSON, as a killed run may leave it; it is called {aside.name} now.")
            file.replace(aside)


def plan_and_preprocess(args: argparse.Namespace) -> None:
    """Do what the parsed arguments say, in the order of nnU-Net's command: a stage for all data sets, then the next."""
    check_environment()
    check_arguments(args)
    datasets = [read_dataset(dataset_id) for dataset_id in dict.fromkeys(args.d)]
    for dataset in datasets:
        check_known(dataset, args.c or ())
    with contextlib.ExitStack() as stack:
        for dataset in datasets:
            stack.enter_context(in_preprocessed_folder(dataset, verbose=args.verbose))
        run_stages(args, datasets)


def run_stages(args: argparse.Namespace, datasets: Sequence[Dataset]) -> None:
    """Extract the fingerprints, plan, preprocess and say what came of it."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    from rl_nnunet.planners.fast_resampling import with_fast_resampling
    from rl_nnunet.planners.fingerprint_extractor import PresentChannelsFingerprintExtractor
    from rl_nnunet.planners.plan_table import print_plans
    from rl_nnunet.planners.preprocessed_data import remove_old_labels, say_old_data

    extractor = find_class(args.fpe, nnunet.DatasetFingerprintExtractor, "experiment_planning")
    planner = find_class(args.pl, ExperimentPlanner, "experiment_planning")
    if args.fast_resampling is not None:
        planner = with_fast_resampling(planner, args.fast_resampling)
    find_class(args.preprocessor_name, DefaultPreprocessor, "preprocessing")
    show_progress_bar = not args.no_pbar

    for dataset in datasets:
        with nnunet_output(dataset, "-npfp", verbose=args.verbose):
            if args.verify_dataset_integrity:
                verify_integrity(dataset, args.npfp)
            # Only ours knows from which files a fingerprint is.
            anew = args.clean or not issubclass(extractor, PresentChannelsFingerprintExtractor)
            nnunet.extract_fingerprint_dataset(
                dataset.identifier, extractor, args.npfp, False, anew, args.verbose,
                show_progress_bar=show_progress_bar,
            )  # fmt: skip
        check_target_spacing(dataset, args.overwrite_target_spacing)
    plans = {}
    for dataset in datasets:
        put_aside_half_plans(dataset, args.overwrite_plans_name)
        with nnunet_output(dataset, "-npfp", verbose=args.verbose):
            _, plans[dataset.name] = nnunet.plan_experiment_dataset(
                dataset.identifier, planner, args.gpu_memory_target, args.preprocessor_name,
                args.overwrite_target_spacing, args.overwrite_plans_name,
            )  # fmt: skip
    for dataset in datasets if not args.no_pp else ():
        processes = planned_processes(args, dataset, plans[dataset.name])
        labels = {case: files[-1] for case, files in dataset.files().items()}
        remove_old_labels(dataset.preprocessed, labels, dataset.ending)
        with nnunet_output(dataset, "-np", verbose=args.verbose):
            nnunet.preprocess_dataset(
                dataset.identifier, plans[dataset.name], list(processes), list(processes.values()), args.verbose,
                show_progress_bar=show_progress_bar,
            )  # fmt: skip
    for dataset in datasets:
        say_old_data(dataset.preprocessed, dataset.files())
        print_plans(planner, dataset.name, plans[dataset.name])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_plan_and_preprocess``."""
    args = build_parser().parse_args(arguments)
    run_command(lambda: plan_and_preprocess(args))


if __name__ == "__main__":
    main()
