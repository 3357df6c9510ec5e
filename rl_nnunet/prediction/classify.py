"""``rl_nnunet_classify``: the class of new cases by a trained classifier."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rl_nnunet.command_line import make_parser, path_argument
from rl_nnunet.errors import InputError, run_command
from rl_nnunet.model_arguments import add_model_arguments, check_device


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_classify``."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.configuration is None:
        parser.error("-d needs -c")
    run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.output.is_dir():
        raise InputError(f"{args.output} is a folder; -o is the table to write, such as predictions.csv.")
    if args.output.exists() and not args.overwrite:
        raise InputError(f"{args.output} exists already; add --overwrite to replace it, or choose another file.")

    # Late, because these import nnU-Net, and --help must answer at once.
    import os

    from rl_nnunet.environment import exports

    # nnU-Net finds our trainers without rl_nnunet_env.
    os.environ.update(exports(os.environ))

    from rl_nnunet.evaluation.trained_model import TrainedModel, model_folder
    from rl_nnunet.prediction.classifier import classify_folder, write_predictions

    check_device(args.device)
    folder = args.model or model_folder(args.dataset, args.trainer, args.plans, args.configuration)
    model = TrainedModel(folder, args.folds, args.checkpoint)
    model.check()
    predictions = classify_folder(
        model,
        args.images,
        args.segmentations,
        device=args.device,
        mirroring=not args.disable_tta,
        allow_tqdm=not args.disable_progress_bar,
    )
    write_predictions(args.output, predictions)
    print(f"Written: {args.output}, {len(predictions.cases)} case{'s' * (len(predictions.cases) != 1)}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what nnUNetv2_predict has, too, is called as there."""
    parser = make_parser(
        "rl_nnunet_classify",
        "Classify cases with a model of ClassificationTrainer or its relatives: a table of the most probable class and "
        "the probabilities, of all folds together and of each.",
    )
    add = parser.add_argument
    add("-i", dest="images", type=path_argument, required=True, metavar="IMAGES", help="folder of the cases")
    add("-o", dest="output", type=path_argument, required=True, metavar="TABLE", help="file to write, comma-separated")
    add(
        "-s",
        dest="segmentations",
        type=path_argument,
        metavar="SEGMENTATIONS",
        help="folder of a segmentation of each case, by whichever model; for models that crop to the structure",
    )
    add_model_arguments(parser, default_trainer="ClassificationTrainer", default_plans="ClassificationPlans")
    add("--disable_tta", action="store_true", help="do not average over mirrored images: faster, less accurate")
    add("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="where to classify (default: %(default)s)")
    add("--disable_progress_bar", action="store_true", help="no progress bar")
    add("--overwrite", action="store_true", help="replace the table if it exists")
    return parser


if __name__ == "__main__":
    main()
