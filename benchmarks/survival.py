"""Survival classes of phantom tumors: classifiers, the most frequent class, and radiomics with the age, in one table.

The survival of the phantoms follows from the age and the volume of the core. All of it is done by commands of ours,
``rl_nnunet_cross_validate`` at the end, which goes on where it was stopped and trains nothing twice.

    python benchmarks/survival.py -o FOLDER --rows ClassificationTrainerAdamW_1epoch
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow import Workplace

DATASET = "Dataset511_Survival"
PLANS, CONFIGURATION = "ClassificationSmallPlans", "3d_fullres"
ROWS = tuple(
    f"{trainer}AdamW_1epoch"
    for trainer in (
        "ClassificationTrainer",
        "IntraInterClassificationTrainerNoAgents",
        "IntraInterClassificationTrainerNoInter",
        "IntraInterClassificationTrainer",
    )
)


def convert(place: Workplace, cases: int, size: int) -> None:
    """Make phantoms, convert those with a survival, and plan."""
    phantom, identifier, name = str(place.root / "phantom"), DATASET[7:10], DATASET[11:]
    place.command(
        "rl_nnunet_make_phantom", "brats", "--year", "2020", "-o", phantom, "--cases", str(cases), "--test_cases", "2",
        "--size", str(size), "-np", "1", "--overwrite",
    )  # fmt: skip
    place.command(
        "rl_nnunet_convert_brats", "-i", phantom, "-d", identifier, "-n", name, "--task", "survival", "-np", "1",
        "--overwrite",
    )  # fmt: skip
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", identifier, "-pl", "ClassificationSmallPlanner", "-npfp", "1", "-np",
        "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=ROWS, help="trainers of classifiers")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=100, help="phantoms; those of a high grade have a survival")
    parser.add_argument("--size", type=int, default=40, help="voxels along the longest axis of a phantom")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only_data", action="store_true", help="make the data set, train nothing")
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    if not place.path("nnUNet_preprocessed", DATASET, f"{PLANS}_{CONFIGURATION}").is_dir():
        convert(place, arguments.cases, arguments.size)
    if arguments.only_data:
        return
    table = place.root / "cross_validation"
    place.command(
        "rl_nnunet_cross_validate", "-d", DATASET[7:10], "-c", CONFIGURATION, "-p", PLANS, "-k", str(arguments.folds),
        "-o", str(table), "-device", place.device, "-tr", *arguments.rows, RL_NNUNET_SEED=str(arguments.seed),
        nnUNet_n_proc_DA="0" if place.device == "cpu" else "12",
    )  # fmt: skip
    print((table / "summary.md").read_text())


if __name__ == "__main__":
    main()
