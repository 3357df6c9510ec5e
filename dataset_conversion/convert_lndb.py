"""``rl_nnunet_convert_lndb``: the lung nodules of LNDb and their texture, for classification."""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.command_line import make_parser, path_argument, whole_number
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme
from rl_nnunet.dataset_conversion.command_line import add_folds_argument, add_output_arguments
from rl_nnunet.errors import InputError, run_command

if TYPE_CHECKING:
    from rl_nnunet.dataset_conversion.lndb import Nodule
    from rl_nnunet.dataset_conversion.lndb_cubes import ScanNodules

LABELS = LabelScheme({"background": (0,), "cube": (1,)})
"""Nothing is segmented, but nnU-Net needs a foreground."""
DEFAULT_EDGE, SMALLEST_EDGE, LARGEST_EDGE = 96, 10, 500
"""In mm. Zhu et al. (see `rl_nnunet.networks.intra_inter_classifier`) cut cubes of 96, without a unit."""


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    if arguments.edge > LARGEST_EDGE:
        raise InputError(
            f"--edge {arguments.edge}: a cube of more than {LARGEST_EDGE} mm holds a whole chest; lower it."
        )
    # Late, because these import nnU-Net, and --help must answer at once.
    from rl_nnunet.class_table import ClassRow
    from rl_nnunet.dataset_conversion.lndb import (
        TEXTURE_CLASSES,
        find_scans,
        find_table,
        listed,
        match_scans,
        read_nodules,
    )
    from rl_nnunet.dataset_conversion.lndb_cubes import cut_scan
    from rl_nnunet.dataset_conversion.raw_dataset import DATASET_KIND, RawDataset, check_target, write_dataset
    from rl_nnunet.files import check_replaceable
    from rl_nnunet.parallel import report_on_all

    scans = find_scans(arguments.input)
    table = arguments.table or find_table(arguments.input)
    nodules, notices = read_nodules(table)
    notices += match_scans(nodules, scans, table)
    present = {nodule.label for nodule in nodules}
    if len(present) < 2:
        raise InputError(f"All nodules of {table} are {present.pop()}; a classifier needs two classes at least.")
    with tempfile.TemporaryDirectory() as scratch:
        dataset = RawDataset(
            arguments.dataset_id,
            arguments.name,
            {"CT": ("CT",)},
            "paired",
            LABELS,
            [_case(nodule, Path(scratch)) for nodule in nodules],
            arguments.orientation,
            "rl_nnunet_convert_lndb",
            arguments.folds,
            stratified_by="class",
            record={"crop": "image"},
            notices=notices,
            classes=tuple(name for name in TEXTURE_CLASSES if name in present),
            class_rows=[ClassRow(nodule.case, nodule.label) for nodule in nodules],
        )
        check_replaceable(check_target(dataset), DATASET_KIND, overwrite=arguments.overwrite)
        items = _by_scan(nodules, scans, Path(scratch))
        reports = report_on_all(partial(cut_scan, edge=arguments.edge), items, arguments.processes, "Cutting")
        filled_up = [case for report in reports for case in report.filled_up]
        if filled_up:
            notices.append(f"filled up with air, as the cube reaches beyond the scan: {listed(filled_up)}.")
        write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def _case(nodule: Nodule, scratch: Path) -> Case:
    from rl_nnunet.dataset_conversion.lndb_cubes import cube_files

    image, label = cube_files(scratch, nodule)
    details = {"texture": f"{nodule.texture:g}"}
    return Case(nodule.case, ("CT",), nodule.patient, {0: image}, label, stratum=nodule.label, details=details)


def _by_scan(nodules: list[Nodule], scans: dict[int, Path], scratch: Path) -> list[ScanNodules]:
    from rl_nnunet.dataset_conversion.lndb_cubes import ScanNodules

    groups: dict[int, list[Nodule]] = defaultdict(list)
    for nodule in nodules:
        groups[nodule.scan].append(nodule)
    return [ScanNodules(scans[number], tuple(group), scratch) for number, group in groups.items()]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_lndb",
        "Convert LNDb (lung nodules in CT) to a classification data set in nnU-Net's raw format: a cube around each "
        "nodule, and the class of its texture, ground glass, part solid or solid.",
    )
    add = parser.add_argument
    add(
        "-i",
        dest="input",
        type=path_argument,
        required=True,
        metavar="FOLDER",
        help="folder that holds the scans (LNDb-0001.mhd and so on) and trainNodules_gt.csv, at any depth",
    )
    add(
        "--table",
        type=path_argument,
        metavar="TABLE",
        help="table of the nodules, if it is not the one trainNodules_gt.csv below -i: LNDbID, FindingID, x, y, z, "
        "Nodule, Text",
    )
    add(
        "--edge",
        type=whole_number(SMALLEST_EDGE),
        default=DEFAULT_EDGE,
        metavar="MM",
        help=f"edge of the cubes in mm, up to {LARGEST_EDGE} (default: %(default)s)",
    )
    add_output_arguments(parser, default_name="LNDb")
    add_folds_argument(parser)
    return parser
