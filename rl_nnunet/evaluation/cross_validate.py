"""``rl_nnunet_cross_validate``: trainers of classifiers and simple baselines in the same nested folds, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rl_nnunet.command_line import make_parser, path_argument, whole_number
from rl_nnunet.errors import InputError, run_command
from rl_nnunet.model_arguments import check_device


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_cross_validate``."""
    args = build_parser().parse_args(arguments)
    run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    import json
    import os

    from rl_nnunet.environment import exports

    # nnU-Net finds our trainers without rl_nnunet_env.
    os.environ.update(exports(os.environ))

    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    from rl_nnunet.evaluation import cross_validation as steps
    from rl_nnunet.files import new_file
    from rl_nnunet.locks import only_run_in

    check_device(args.device)
    try:
        dataset = maybe_convert_to_dataset_name(args.dataset)
    except (RuntimeError, ValueError):
        raise InputError(
            f"-d {args.dataset}: there is no data set of this name or ID, or several; correct it."
        ) from None
    study = steps.Study(dataset, args.configuration, args.plans, args.trainers, args.device)
    classes, show = study.classes(), not args.disable_progress_bar
    args.output.mkdir(parents=True, exist_ok=True)
    with only_run_in(
        args.output, f"Another run is writing {args.output}; wait for it to end, or choose another folder."
    ):
        folds = steps.prepare_folds(study, classes, args.folds)
        results = {}
        if not args.no_baselines:
            splits = json.loads((study.preprocessed / steps.SPLITS_FILE).read_text(encoding="utf-8"))
            features = steps.features_of_cases(study, list(classes.labels), allow_tqdm=show)
            results |= steps.results_of_baselines(classes, [splits[fold] for fold in folds], features)
        steps.train_all(study, folds, args.at_once, allow_tqdm=show)
        results |= steps.results_of_trainers(study, folds)
        table = steps.format_table(results)
        with new_file(args.output / "summary.md") as file:
            file.write_text(f"{table}\n", encoding="utf-8")
    print(table)
    print(f"Written: {args.output / 'summary.md'}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what nnU-Net's commands have, too, is called as there."""
    parser = make_parser(
        "rl_nnunet_cross_validate",
        "Train and test classifiers in k folds by nnU-Net's command, each fold with an inner part for choosing the "
        "epoch, beside the most frequent class and radiomics with the age. A run that was killed goes on if it is "
        "started again.",
    )
    add = parser.add_argument
    add("-d", dest="dataset", required=True, metavar="DATASET", help="name or ID of the data set")
    add("-c", dest="configuration", required=True, metavar="CONFIGURATION", help="such as 3d_fullres")
    add("-o", dest="output", type=path_argument, required=True, metavar="OUTPUT", help="folder for the table")
    add("-tr", dest="trainers", nargs="*", default=[], metavar="TRAINER", help="trainers of classifiers")
    add("-p", dest="plans", default="ClassificationPlans", metavar="PLANS", help="default: %(default)s")
    add("-k", dest="folds", type=whole_number(2), default=5, metavar="K", help="number of folds (default: %(default)s)")
    add("--at_once", type=whole_number(1), default=1, metavar="N", help="trainings at a time (default: %(default)s)")
    add("--no_baselines", action="store_true", help="without the most frequent class and radiomics")
    add("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="where to train (default: %(default)s)")
    add("--disable_progress_bar", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    main()
