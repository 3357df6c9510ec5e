"""``rl_nnunet_convert_images_2d``: photographs or radiographs and their classes, for classification."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.command_line import add_run_arguments, make_parser, path_argument
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme
from rl_nnunet.dataset_conversion.command_line import add_folds_argument
from rl_nnunet.errors import InputError, run_command

if TYPE_CHECKING:
    from rl_nnunet.dataset_conversion.images_2d import Image2D

LABELS = LabelScheme({"background": (0,), "image": (1,)})
"""Nothing is segmented, but nnU-Net needs a foreground."""


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    # Late, because these import nnU-Net, and --help must answer at once.
    from rl_nnunet.class_table import ClassRow, read_records
    from rl_nnunet.dataset_conversion.images_2d import COLORS, find_images, images_of_table
    from rl_nnunet.dataset_conversion.raw_dataset import DATASET_KIND, RawDataset, check_target, write_dataset
    from rl_nnunet.files import check_replaceable
    from rl_nnunet.parallel import work_on_all

    if arguments.table is None:
        images = find_images(arguments.input)
    else:
        images = images_of_table(arguments.input, read_records(arguments.table, ("file", "label")), arguments.table)
    classes = tuple(sorted({image.label for image in images}))
    if len({image.label for image in images if not image.is_test}) < 2:
        raise InputError(
            f"The training images have one class, {', '.join(classes)}; a classifier needs two: a folder for each."
        )
    channels = COLORS if arguments.color else ("gray",)
    with tempfile.TemporaryDirectory() as scratch:
        cases = [_case(image, Path(scratch), len(channels)) for image in images]
        dataset = RawDataset(
            arguments.dataset_id,
            arguments.name,
            {"image": channels},
            "paired",
            LABELS,
            cases,
            "keep",
            "rl_nnunet_convert_images_2d",
            arguments.folds,
            stratified_by="class",
            record={"crop": "image"},
            classes=classes,
            class_rows=[ClassRow(i.case, i.label, "test" if i.is_test else "train") for i in images],
        )
        check_replaceable(check_target(dataset), DATASET_KIND, overwrite=arguments.overwrite)
        errors = work_on_all(
            partial(write_scans, color=arguments.color),
            list(zip(images, cases, strict=True)),
            arguments.processes,
            "Reading",
        )
        _refuse([error for error in errors if error])
        write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def _refuse(errors: Sequence[str]) -> None:
    if errors:
        raise InputError(errors[0] + (f" (Unusable, too: {len(errors) - 1} more.)" if len(errors) > 1 else ""))


def _case(image: Image2D, scratch: Path, channels: int) -> Case:
    files = {channel: scratch / f"{image.case}_{channel}.nii.gz" for channel in range(channels)}
    label = scratch / f"{image.case}_label.nii.gz"
    return Case(image.case, ("image",), image.patient, files, label, image.is_test, stratum=image.label)


def write_scans(item: tuple[Image2D, Case], *, color: bool) -> str:
    """Write an image as one slice a channel, and a label map of ones; return the sentence if it cannot be used."""
    import numpy as np
    import SimpleITK as sitk

    from rl_nnunet.dataset_conversion.images_2d import PIXEL_MM, read_pixels

    image, case = item
    try:
        pixels = read_pixels(image.path, color=color)
    except InputError as error:
        return str(error)
    slices = {case.images[channel]: values for channel, values in enumerate(pixels)}
    for file, values in {**slices, case.label: np.ones(pixels.shape[1:], np.uint8)}.items():
        scan = sitk.GetImageFromArray(values[None])
        scan.SetSpacing((PIXEL_MM, PIXEL_MM, 1.0))
        sitk.WriteImage(scan, str(file))
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_images_2d",
        "Convert photographs or radiographs (PNG, JPEG, BMP, TIFF, DICOM) and their classes to a classification data "
        "set in nnU-Net's raw format. The classes are the names of the folders, which may lie in folders train, val "
        "and test; the layout of MURA is recognized.",
    )
    add = parser.add_argument
    add("-i", dest="input", type=path_argument, required=True, metavar="FOLDER", help="folder of the images")
    add(
        "--table",
        type=path_argument,
        metavar="TABLE",
        help="table of the images, in the place of folders of classes: file (below -i), label and, if there are any, "
        "split (train or test) and patient",
    )
    add("--color", action="store_true", help="keep red, green and blue as channels, instead of the luminance")
    add("-d", dest="dataset_id", type=int, required=True, metavar="ID", help="data set ID, from 1 to 999")
    add("-n", dest="name", required=True, metavar="NAME", help="data set name, without ID")
    add_run_arguments(parser, "data set")
    add_folds_argument(parser)
    return parser
