"""``rl_nnunet_evaluate_subsets``: the Dice of a model with every subset of the modalities."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rl_nnunet.command_line import make_parser, number, path_argument, whole_number
from rl_nnunet.errors import InputError, run_command
from rl_nnunet.model_arguments import add_model_arguments, check_device

MANY_MODALITIES = 12
"""From here on, there are more than four thousand subsets."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_evaluate_subsets``."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.configuration is None:
        parser.error("-d needs -c")
    run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    import os

    from rl_nnunet.environment import exports

    # nnU-Net finds our trainers without rl_nnunet_env.
    os.environ.update(exports(os.environ))

    from rl_nnunet.evaluation.subset_prediction import evaluate_subsets
    from rl_nnunet.evaluation.subset_report import write_report
    from rl_nnunet.evaluation.trained_model import TrainedModel, model_folder

    check_device(args.device)
    folder = args.model or model_folder(args.dataset, args.trainer, args.plans, args.configuration)
    model = TrainedModel(folder, args.folds, args.checkpoint)
    model.check()
    erase = dict(args.erase)
    unknown = next((name for name in erase if name not in model.labels), None)
    if unknown is not None:
        raise InputError(f"--erase {unknown}: the model in {folder} has no such label, only {', '.join(model.labels)}.")
    if len(model.modalities) > MANY_MODALITIES:
        subsets = 2 ** len(model.modalities) - 1
        print(f"Warning: {len(model.modalities)} modalities have {subsets:,} subsets.", file=sys.stderr)
    counts = evaluate_subsets(
        model,
        args.images,
        args.references,
        args.output,
        device=args.device,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
        save_predictions=args.save_predictions,
        overwrite=args.overwrite,
        allow_tqdm=not args.disable_progress_bar,
    )
    print(write_report(args.output, counts, model.modalities, erase, args.tolerance))
    print(f"Written: {args.output}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what nnUNetv2_predict has, too, is called as there."""
    parser = make_parser(
        "rl_nnunet_evaluate_subsets",
        "Evaluate a trained model with every subset of the modalities, as if the others were images of zeros. A run "
        "that was killed goes on if it is started again.",
    )
    add = parser.add_argument
    add("-i", dest="images", type=path_argument, required=True, metavar="IMAGES", help="folder of the cases")
    add("-r", dest="references", type=path_argument, required=True, metavar="LABELS", help="folder of the references")
    add("-o", dest="output", type=path_argument, required=True, metavar="OUTPUT", help="folder for the results")
    add_model_arguments(parser)
    add(
        "-step_size",
        type=number(0.01, 1),
        default=0.5,
        help="step of the sliding window, in patches (default: %(default)s)",
    )
    add("--disable_tta", action="store_true", help="do not average over mirrored images: faster, less accurate")
    add("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="where to predict (default: %(default)s)")
    add("--disable_progress_bar", action="store_true", help="no progress bar")
    add("--save_predictions", action="store_true", help="also write the segmentations, to OUTPUT/predictions/SUBSET")
    add(
        "--erase",
        type=_region_size,
        nargs="+",
        default=[],
        metavar="REGION=VOXELS",
        help="in the field's convention, take a region of fewer voxels for none; BraTS: enhancing_tumor=500",
    )
    add(
        "--tolerance",
        type=number(0, 1),
        default=1e-6,
        help="adding a modality does harm if a case's mean Dice falls by more than this (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace results of another model or of other cases in OUTPUT")
    return parser


def _region_size(text: str) -> tuple[str, int]:
    name, separator, voxels = text.rpartition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not like enhancing_tumor=500")
    return name, whole_number(0)(voxels)


if __name__ == "__main__":
    main()
