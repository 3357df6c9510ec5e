"""``rl_nnunet_predict``: segment whatever scans there are of a case."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rl_nnunet.command_line import make_parser, number, path_argument, whole_number
from rl_nnunet.errors import run_command
from rl_nnunet.model_arguments import add_devices_argument, add_model_arguments, check_devices, devices_parser

if TYPE_CHECKING:
    from rl_nnunet.evaluation.trained_model import TrainedModel
    from rl_nnunet.prediction.input_files import CaseFiles

PAIRINGS = ("auto", "physical", "relative", "none")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_predict``."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.configuration is None:
        parser.error("-d needs -c")
    if args.part_id >= args.num_parts:
        parser.error("-part_id must be below -num_parts; the first part is 0")
    words = sys.argv[1:] if arguments is None else arguments
    run_command(lambda: _run(args, words))


def _run(args: argparse.Namespace, words: Sequence[str]) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    from rl_nnunet.environment import exports

    # nnU-Net finds our trainers without rl_nnunet_env.
    os.environ.update(exports(os.environ))

    from rl_nnunet.evaluation.trained_model import TrainedModel, model_folder
    from rl_nnunet.prediction.predictor import find_cases

    check_devices(args.devices or [args.device])
    folder = args.model or model_folder(args.dataset, args.trainer, args.plans, args.configuration)
    model = TrainedModel(folder, args.folds, args.checkpoint)
    model.check()
    cases = find_cases(model, args.images, args.modality)
    if args.devices:
        _predict_on_devices(args, words, model, [case.name for case in cases])
    else:
        _predict(args, model, cases)


def _predict_on_devices(
    args: argparse.Namespace, words: Sequence[str], model: TrainedModel, names: Sequence[str]
) -> None:
    """Share the cases out among devices."""
    from rl_nnunet.command_queue import places
    from rl_nnunet.prediction.parts import predict_in_parts
    from rl_nnunet.prediction.predictor import refuse_to_replace

    if not (args.overwrite or args.continue_prediction):
        # Each part looks at its own cases alone, and others would have begun by then.
        files = [f"{name}{model.dataset_json['file_ending']}" for name in names[args.part_id :: args.num_parts]]
        refuse_to_replace(each for name in files for each in (args.output / name, *args.output.glob(f"*/{name}")))
    _, words = devices_parser().parse_known_args(words)
    predict_in_parts(
        ["rl_nnunet_predict", *words], names, places(args.devices), part=args.part_id, parts=args.num_parts,
        allow_tqdm=not args.disable_progress_bar,
    )  # fmt: skip


def _predict(args: argparse.Namespace, model: TrainedModel, cases: Sequence[CaseFiles]) -> None:
    """Predict in this process."""
    import torch

    from rl_nnunet.prediction.predictor import PredictionSettings, predict_cases

    # As many threads as nnU-Net takes: on a GPU, more are no help.
    torch.set_num_threads(1 if args.device == "cuda" else os.cpu_count() or 1)
    settings = PredictionSettings(
        pairing=args.pairing,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
        device=args.device,
        on_device=not args.not_on_device,
        save_probabilities=args.save_probabilities,
        existing="keep" if args.continue_prediction else "replace" if args.overwrite else "refuse",
        processes=(args.npp, args.nps),
        previous=args.previous,
        part=args.part_id,
        parts=args.num_parts,
        allow_tqdm=not args.disable_progress_bar,
        verbose=args.verbose,
    )
    count = predict_cases(model, cases, args.output, settings)
    print(f"Written: {args.output}, {count} segmentation{'s' * (count != 1)}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what nnUNetv2_predict has, too, is called as there."""
    parser = make_parser(
        "rl_nnunet_predict",
        "Segment as nnUNetv2_predict does, and also cases that lack files, DICOM series, and several scans of a "
        "patient on different grids, each on its own.",
    )
    add = parser.add_argument
    add(
        "-i",
        dest="images",
        type=path_argument,
        required=True,
        metavar="IMAGES",
        help="folder of files like CASE_0000.nii.gz, or of folders like CASE_0000 with a DICOM series each; or one "
        "file or series, with --modality",
    )
    add("-o", dest="output", type=path_argument, required=True, metavar="OUTPUT", help="folder for the segmentations")
    add_model_arguments(parser)
    add("--modality", metavar="NAME", help="what the one scan is that -i names: the name of a channel, such as CT")
    add(
        "--pairing",
        choices=PAIRINGS,
        default="auto",
        help="how the place in a patient's other scan is found: physical, by the coordinates in the headers; relative, "
        "at the same part of its extent; none, each scan is segmented alone; auto, physical if the frame of reference "
        "is the same or, where it is not known, the boxes overlap, and relative if not (default: %(default)s)",
    )
    _add_stock_arguments(parser)
    add("--overwrite", action="store_true", help="replace segmentations that are there")
    return parser


def _add_stock_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what nnUNetv2_predict has beyond input, output and model."""
    add = parser.add_argument
    add(
        "-step_size",
        type=number(0.01, 1),
        default=0.5,
        help="step of the sliding window, in patches (default: %(default)s)",
    )
    add("--disable_tta", action="store_true", help="do not average over mirrored images: faster, less accurate")
    add("--verbose", action="store_true", help="let nnU-Net talk")
    add("--save_probabilities", action="store_true", help="also write probabilities, as ensembles need them")
    add(
        "--continue_prediction",
        "--c",
        action="store_true",
        help="keep the segmentations that are there, and make those that are missing",
    )
    for flag, what in (("-npp", "preprocessing"), ("-nps", "export")):
        default = _default_processes(f"nnUNet_{flag[1:]}")
        text = f"number of processes for {what}; 0 for none beside this one (default: %(default)s)"
        add(flag, type=whole_number(0), default=default, metavar="N", help=text)
    add(
        "-prev_stage_predictions",
        dest="previous",
        type=path_argument,
        metavar="FOLDER",
        help="segmentations of the previous stage, for the second one of a cascade",
    )
    add("-num_parts", type=whole_number(1), default=1, metavar="N", help="parts of the cases, for several machines")
    add("-part_id", type=whole_number(0), default=0, metavar="ID", help="which part this is, from 0 on")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-device", choices=("cuda", "cpu", "mps"), default="cuda", help="where to predict (default: %(default)s)"
    )
    add_devices_argument(where, "where to predict parts of the cases side by side")
    add("--disable_progress_bar", action="store_true", help="no progress bar")
    add("--not_on_device", action="store_true", help="keep predictions out of the memory of the GPU: slower")


def _default_processes(variable: str) -> int:
    """Return nnU-Net's default, which a variable may set."""
    try:
        return int(os.environ.get(variable) or 3)
    except ValueError:
        return 3


if __name__ == "__main__":
    main()
