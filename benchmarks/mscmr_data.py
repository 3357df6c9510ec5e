"""MS-CMRSeg 2019 (bSSFP and LGE) as nnU-Net's data sets: both contrasts together, each alone, and one plan for all.

Together they come in two forms: a channel for each, the absent one blank, and one channel that holds either.

What the benchmarks on these data share. Every network has the patch, spacing, encoder and decoder of one plan.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from workflow import Workplace, planned_size, stock_plans

FILES = {"bSSFP": "{case}_C0", "LGE": "{case}_LGE"}
DATASETS = {"bSSFP": "Dataset522_bSSFP", "LGE": "Dataset523_LGE"}
DATASET, ONE_CHANNEL = "Dataset521_MSCMR", "Dataset525_Either"
PLANS, FULL_PLANS, STOCK, CONFIGURATION = "RLXAlignSmallPlans", "RLXAlignPlans", "StockPlans", "2d"
CORRECTION = {"bSSFP": "0.74,0.74,keep"}
"""The headers of bSSFP state 1.2 mm in plane. In the nine patients who have both contrasts, a heart has the same size
in voxels in both, and LGE's measure 0.73 to 0.76 mm. With the headers as they are, one organ comes in two sizes."""
SPACING = ("10", "1.5", "1.5")
PATCH_SIZE, BATCH_SIZE = [96, 96], 3
"""At 1.5 mm a patch covers the heart; one training and its evaluation take minutes on one core. nnU-Net forces a third
of the patches of a batch to show a structure, and rounds: of 3 it is one, of 6 two, but of 4 one and of 8 three."""


def convert(place: Workplace, data: Path, held_out: Sequence[str] = (), *options: str) -> None:
    """Convert both contrasts together, with more options of the converter, each alone, and both in one channel.

    Parameters
    ----------
    place : Workplace
        Where to.
    data : Path
        The folder with the contrasts.
    held_out : sequence of str
        Patients (``14``) who go to ``imagesTs``.
    *options : str
        Of ``rl_nnunet_convert_unpaired``, for both contrasts together.
    """

    def run(identifier: str, name: str, contrasts: Sequence[str], *more: str) -> None:
        branches = []
        for contrast in contrasts:
            stem = data / contrast / FILES[contrast]
            branches += ["--branch", f"{contrast}={stem}.nii.gz:{stem}_manual.nii.gz"]
        patients = [p for p in held_out if any((data / c / f"{FILES[c].format(case=f'patient{p}')}.nii.gz").is_file()
                                               for c in contrasts)]  # fmt: skip
        corrections = [f"{contrast}={CORRECTION[contrast]}" for contrast in contrasts if contrast in CORRECTION]
        # The stacks lie obliquely: turning them to one axis order would put the slices along different axes.
        place.command(
            "rl_nnunet_convert_unpaired", "-d", identifier, "-n", name, "--orientation", "keep", *branches,
            "--labels", "background=0", "myocardium=200", "left_ventricle=500", "right_ventricle=600", "-np", "1",
            *(["--hold_out", *(f"patient{p}" for p in patients)] if patients else []),
            *(["--spacing", *corrections] if corrections else []), *more,
        )  # fmt: skip

    run(DATASET[7:10], DATASET[11:], list(FILES), *options)
    for contrast, dataset in DATASETS.items():
        run(dataset[7:10], dataset[11:], [contrast])
    _join_in_one_channel(place)


def _join_in_one_channel(place: Workplace) -> None:
    """Make a data set of all cases of both contrasts, as if they were scans of one kind."""
    target = place.path("nnUNet_raw", ONE_CHANNEL)
    sources = [place.path("nnUNet_raw", dataset) for dataset in DATASETS.values()]
    for source in sources:
        for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            if (source / folder).is_dir():
                shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)
    description = json.loads((sources[0] / "dataset.json").read_text())
    cases = len(list((target / "labelsTr").iterdir()))
    kept = {"labels": description["labels"], "file_ending": description["file_ending"]}
    (target / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "numTraining": cases, **kept}))


def plan(place: Workplace, full: bool = False) -> None:
    """Plan with our planner, and give stock nnU-Net the same patch, spacing, encoder and decoder.

    They are the small ones above, or, `full`, those of the usual planner.
    """
    spacing = () if full else ("-overwrite_target_spacing", *SPACING)
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", DATASET[7:10], "-pl", f"RLXAlign{planned_size(full)}Planner", "-c",
        CONFIGURATION, "-npfp", "1", "-np", "1", *spacing, nnUNet_n_proc_DA="1",
    )  # fmt: skip
    file = place.path("nnUNet_preprocessed", DATASET, f"{FULL_PLANS if full else PLANS}.json")
    ours = json.loads(file.read_text())
    configuration = ours["configurations"][CONFIGURATION]
    if not full:
        configuration |= {"patch_size": PATCH_SIZE, "batch_size": BATCH_SIZE}
        file.write_text(json.dumps(ours))
    batch_size = configuration["batch_size"]
    zero_filled = stock_plans(ours, STOCK, (0, 1), 2 * batch_size, CONFIGURATION)
    file.with_name(f"{STOCK}.json").write_text(json.dumps(zero_filled))
    for channel, dataset in enumerate(DATASETS.values()):
        alone = stock_plans(ours, STOCK, (channel,), batch_size, CONFIGURATION)
        preprocess_with(place, alone, dataset)
    preprocess_with(place, stock_plans(ours, STOCK, (0,), 2 * batch_size, CONFIGURATION), ONE_CHANNEL)


def preprocess_with(place: Workplace, plans: dict, dataset: str) -> None:
    """Preprocess a data set with stock plans that were made of those of another."""
    identifier = dataset[7:10]
    place.command("nnUNetv2_extract_fingerprint", "-d", identifier, "-np", "1")
    plans["dataset_name"] = dataset
    plans["configurations"][CONFIGURATION]["data_identifier"] = f"{STOCK}_{CONFIGURATION}"
    folder = place.path("nnUNet_preprocessed", dataset)
    (folder / f"{STOCK}.json").write_text(json.dumps(plans))
    shutil.copy(place.path("nnUNet_raw", dataset, "dataset.json"), folder)
    place.command("nnUNetv2_preprocess", "-d", identifier, "-plans_name", STOCK, "-c", CONFIGURATION, "-np", "1")
