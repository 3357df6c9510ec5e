"""``rl_nnunet_convert_mmwhs``: the whole-heart data set MM-WHS 2017, unpaired CT and MRI."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rl_nnunet.command_line import make_parser, path_argument
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme
from rl_nnunet.dataset_conversion.command_line import add_output_arguments
from rl_nnunet.dataset_conversion.file_search import BranchFiles, find_cases
from rl_nnunet.errors import InputError, run_command

# nnU-Net gives a channel called "CT" its CT normalization, and any other z-scores.
BRANCHES = {"ct": "CT", "mr": "MRI"}
LABELS = LabelScheme(
    {
        "background": (0,),
        "myocardium": (205,),
        "left_atrium": (420, 421),
        "left_ventricle": (500,),
        "right_atrium": (550,),
        "right_ventricle": (600,),
        "ascending_aorta": (820,),
        "pulmonary_artery": (850,),
    },
    # Some voxels of the left atrium carry a value that the challenge does not list.
    stray=frozenset({421}),
)


def main() -> None:
    """Run the command."""
    run_command(_run)


def _run() -> None:
    arguments = _parser().parse_args()
    modalities = list(dict.fromkeys(arguments.modalities or BRANCHES))
    cases = find_mmwhs_cases(arguments.input, modalities, pair_test=arguments.pair_test)

    from rl_nnunet.dataset_conversion.raw_dataset import RawDataset, write_dataset

    dataset = RawDataset(
        arguments.dataset_id,
        arguments.name,
        {BRANCHES[modality]: (BRANCHES[modality],) for modality in modalities},
        "unpaired",
        LABELS,
        cases,
        arguments.orientation,
        "rl_nnunet_convert_mmwhs",
    )
    write_dataset(dataset, processes=arguments.processes, overwrite=arguments.overwrite)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_convert_mmwhs",
        "Convert MM-WHS 2017 (CT and MRI of different patients) to nnU-Net's raw format.",
    )
    parser.add_argument(
        "-i",
        dest="input",
        type=path_argument,
        required=True,
        metavar="FOLDER",
        help="folder that holds ct_train and mr_train, and ct_test and mr_test if you have them",
    )
    add_output_arguments(parser, default_name="MMWHS")
    parser.add_argument(
        "--modalities",
        action="extend",
        nargs="+",
        choices=tuple(BRANCHES),
        help="modalities to convert; one channel each (default: ct mr)",
    )
    parser.add_argument(
        "--pair_test",
        action="store_true",
        help="test scans of different modalities with one number show one patient: write them as one case, too, on "
        "the grid of the first modality",
    )
    return parser


def find_mmwhs_cases(folder: Path, modalities: list[str], *, pair_test: bool = False) -> list[Case]:
    """Find the cases of MM-WHS.

    Parameters
    ----------
    folder : Path
        Folder that holds ``ct_train`` and so on.
    modalities : list of str
        Of "ct" and "mr"; the order is the order of the channels.
    pair_test : bool
        Whether to add a case of all modalities for every number that the test scans of all of them share.

    Raises
    ------
    InputError
        If a folder or file is missing, or there is no pair.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; -i is the folder that holds ct_train and mr_train.")
    cases, tests = [], []
    for channel, modality in enumerate(modalities):
        if not (folder / f"{modality}_train").is_dir():
            raise InputError(
                f"{folder} has no folder {modality}_train; correct -i, or leave {modality} out (--modalities)."
            )
        cases += find_cases(_files(folder, modality, "train"), [channel], f"{modality}_train_{{case}}")
        if (folder / f"{modality}_test").is_dir():
            files = _files(folder, modality, "test")
            identifier = f"{modality}_test_{{case}}"
            tests.append(find_cases(files, [channel], identifier, is_test=True, optional_labels=True))
    cases += [case for of_modality in tests for case in of_modality]
    if pair_test:
        pairs = _pairs(tests) if 1 < len(tests) == len(modalities) else []
        if not pairs:
            raise InputError(
                f"--pair_test: {folder} has no test scans of two modalities with the same number; leave it out."
            )
        cases += pairs
    return cases


def _files(folder: Path, modality: str, part: str) -> BranchFiles:
    # Some mirrors of the data unpack the files: the ending may be .nii.gz or .nii.
    prefix = folder / f"{modality}_{part}" / f"{modality}_{part}_{{case}}"
    return BranchFiles(BRANCHES[modality], (f"{prefix}_image.nii*",), f"{prefix}_label.nii*")


def _pairs(tests: list[list[Case]]) -> list[Case]:
    """Join the test cases of one number: the first modality's grid and label, the images of all."""
    by_number = [{case.identifier.rpartition("_")[2]: case for case in cases} for cases in tests]
    return [
        replace(
            first,
            identifier=f"pair_{number}",
            branches=tuple(branch for cases in by_number for branch in cases[number].branches),
            images={channel: path for cases in by_number for channel, path in cases[number].images.items()},
            resample=True,
        )
        for number, first in by_number[0].items()
        if all(number in cases for cases in by_number)
    ]
