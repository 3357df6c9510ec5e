"""``rl_nnunet_export_model``: a trained model as a folder without pickles, with a card, to give to others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from rl_nnunet.command_line import make_parser, path_argument
from rl_nnunet.errors import run_command
from rl_nnunet.model_arguments import add_model_arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_export_model``."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.configuration is None:
        parser.error("-d needs -c")
    run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    from rl_nnunet.environment import exports

    os.environ.update(exports(os.environ))

    from rl_nnunet.evaluation.trained_model import TrainedModel, model_folder
    from rl_nnunet.sharing.export import export_model

    folder = args.model or model_folder(args.dataset, args.trainer, args.plans, args.configuration)
    model = TrainedModel(folder, args.folds, args.checkpoint)
    model.check()
    export_model(model, args.output, args.licence, overwrite=args.overwrite)
    size = sum(file.stat().st_size for file in args.output.rglob("*") if file.is_file())
    before = sum(file.stat().st_size for file in model.checkpoints)
    print(f"Written: {args.output}, {size / 1e6:.1f} MB (the checkpoints: {before / 1e6:.1f} MB)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what names the model is as in the other commands."""
    parser = make_parser(
        "rl_nnunet_export_model",
        "Write a trained model of nnU-Net's or ours as a folder to give to others: weights as safetensors, plans, "
        "dataset.json and a model card, and no pickle, which could run code. rl_nnunet_predict -m takes it.",
    )
    add_model_arguments(parser)
    add = parser.add_argument
    add("-o", dest="output", type=path_argument, required=True, metavar="MODEL", help="the folder to write")
    add("--licence", default="", metavar="TEXT", help="of the weights, for the card, such as CC-BY-4.0")
    add("--overwrite", action="store_true", help="replace an exported model that is there")
    return parser


if __name__ == "__main__":
    main()
