"""``rl_nnunet_report``: Dice, surface Dice and distances of predictions, as tables and as one page with pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rl_nnunet.command_line import add_run_arguments, make_parser, number, path_argument, whole_number
from rl_nnunet.errors import InputError, run_command

KIND = "a report"
NSD_TOLERANCE_MM = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_report``."""
    args = build_parser().parse_args(arguments)
    run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    # Late, because these import nnU-Net, and --help must answer at once.
    from rl_nnunet.evaluation.report.cases import measure
    from rl_nnunet.evaluation.report.contents import read_subset_table, sections, write_tables
    from rl_nnunet.evaluation.report.page import to_html, to_markdown
    from rl_nnunet.evaluation.report.runs import Places, find_runs
    from rl_nnunet.files import check_replaceable, new_folder

    # An hour of measuring would be lost otherwise.
    check_replaceable(args.output, KIND, overwrite=args.overwrite)
    folders = args.compare or [args.model or args.predictions]
    if args.compare and len(args.compare) < 2:
        raise InputError("--compare takes two folders or more; for one, use -m or -p.")
    runs = find_runs(folders, Places(args.references, args.images, args.dataset_json, args.folds))
    subsets = read_subset_table(args.subsets) if args.subsets else None
    measured = measure(runs, args.nsd_tolerance, args.processes)
    title = f"Report on {', '.join(run.name for run in runs)}"
    with new_folder(args.output, KIND, overwrite=args.overwrite) as folder:
        write_tables(folder, measured)
        contents = sections(runs, measured, subsets, args.nsd_tolerance)
        (folder / "report.md").write_text(to_markdown(title, contents), encoding="utf-8")
        (folder / "report.html").write_text(to_html(title, contents), encoding="utf-8")
    print(to_markdown(title, contents[:1]))
    print(f"Written: {args.output / 'report.html'}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(
        "rl_nnunet_report",
        "Report on the validation of a trained model, or on predictions and their references: Dice, surface Dice and "
        "surface distances of each structure and branch, as CSV, Markdown and one HTML page with pictures. With "
        "several folders, paired tests between them.",
    )
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    folder = {"type": path_argument, "metavar": "FOLDER"}
    which.add_argument("-m", dest="model", **folder, help="folder of a trained model, or of one of its folds")
    which.add_argument("-p", dest="predictions", **folder, help="folder of predictions, with -r")
    which.add_argument("--compare", nargs="+", **folder, help="several of them, side by side, with paired tests")
    add("-o", dest="output", type=path_argument, required=True, metavar="OUTPUT", help="folder for the report")
    add("-r", dest="references", **folder, help="folder of the references (default: those that nnU-Net has of a model)")
    add("-i", dest="images", **folder, help="folder of the images (default: imagesTr of a model's data set)")
    add("-f", dest="folds", nargs="+", type=_fold, metavar="FOLD", help="default: all that are validated")
    add(
        "-djfile",
        dest="dataset_json",
        type=path_argument,
        metavar="FILE",
        help="dataset.json, if it does not lie beside the predictions",
    )
    add(
        "--nsd_tolerance",
        type=number(0, 100),
        default=NSD_TOLERANCE_MM,
        metavar="MM",
        help="tolerance of the surface Dice in mm (default: %(default)s)",
    )
    add("--subsets", **folder, help="output of rl_nnunet_evaluate_subsets, to show its table")
    add_run_arguments(parser, "report")
    return parser


def _fold(text: str) -> int | str:
    return text if text == "all" else whole_number(0)(text)
