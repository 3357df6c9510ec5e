"""Paired sequences, any of which may be missing: our trainers against what a user would do first.

Every row of the table is a trainer with a number of steps, ``TRAINER:STEPS``, so that rows can be compared at equal
patches (equal steps) or at equal time (steps by the ratio that ``cost_paired.py`` measures). All rows have the same
patch and batch; stock nnU-Net has the encoder and decoder of ``RLXAlignSmallPlanner``. Every model predicts the
held-out cases from each of the 2^N - 1 subsets of the sequences (``rl_nnunet_evaluate_subsets``, nnU-Net's convention).
``--full`` leaves networks, patches and spacing to the usual planners: for GPUs, in a folder of its own.

``--data phantom``: BraTS look-alikes, regions WT, TC and ET; ``--data myops``: MyoPS 2020 (bSSFP, LGE and T2 of the
heart), found through ``RL_NNUNET_DATA``, eight cases held out. A finished run (row, seed) is not repeated, and a
stopped one goes on.

    python benchmarks/paired.py -o FOLDER --data myops --seeds 0 1 2 --rows nnUNetTrainerModalityDropout:2000
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from workflow import Results, Workplace, markdown, planned_size, real_data, stock_plans

from rl_nnunet.evaluation.subset_prediction import evaluate_subsets
from rl_nnunet.evaluation.subsets import dice_per_case, mean_per_subset
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.plans.modality_encoder import modality_encoder


class Data(NamedTuple):
    """A data set of the benchmark, and what its plans are changed to."""

    dataset: str
    configuration: str
    planning: tuple[str, ...] = ()
    entries: dict[str, Any] = {}


DATA = {
    "phantom": Data("Dataset541_PhantomTumors", "3d_fullres"),
    # The few, thick slices of MyoPS give 3D patches of one slice, on which nnU-Net's augmentation stumbles. At 2 mm a
    # patch covers the heart, and a training and its evaluation take minutes on one core.
    "myops": Data(
        "Dataset542_MyoPS", "2d", ("-overwrite_target_spacing", "12", "2", "2"),
        {"patch_size": [64, 64], "batch_size": 8},
    ),
}  # fmt: skip
STOCK = "StockPlans"
PLANNERS = ("RLXAlign", "IntraInter")
DEFAULT_ROWS = (
    "nnUNetTrainer",
    "nnUNetTrainerModalityDropout",
    "RLXAlignTrainer",
    "IntraInterTrainerNoAgents",
    "IntraInterTrainer",
)
TOPOLOGY = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_blocks_per_stage",
            "n_conv_per_stage_decoder")  # fmt: skip
MYOPS_HELD_OUT = (
    "Case3005", "Case3011", "Case3018", "Case3023", "Case3028", "Case3038", "Case3040", "Case3042",
)  # fmt: skip
MYOPS_LABELS = ("background=0", "myocardium=200", "left_ventricle=500", "right_ventricle=600", "edema=1220",
                "scar=2221")  # fmt: skip


class Row(NamedTuple):
    """A row of the table."""

    trainer: str
    steps: int
    full: bool = False

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.trainer}:{self.steps}"

    @property
    def plans(self) -> str:
        """Name of the plans that the trainer takes."""
        planner = next((name for name in PLANNERS if self.trainer.startswith(name)), None)
        return f"{planner}{planned_size(self.full)}Plans" if planner else STOCK


def convert_phantom(place: Workplace, size: int, cases: int, noise_sequence: str | None) -> None:
    """Make and convert BraTS look-alikes."""
    phantom = str(place.root / "phantom")
    noise = ["--noise_sequence", noise_sequence] if noise_sequence else []
    place.command(
        "rl_nnunet_make_phantom", "brats", "-o", phantom, "--cases", str(cases), "--test_cases", "10", "--test_labels",
        "--size", str(size), *noise, "-np", "1",
    )  # fmt: skip
    place.command("rl_nnunet_convert_brats", "-i", phantom, "-d", "541", "-n", "PhantomTumors", "-np", "1")


def convert_myops(place: Workplace, data: Path) -> None:
    """Convert MyoPS; without our key in dataset.json, every channel is a branch of paired data."""
    case = data / "{case}" / "{case}"
    images = ",".join(f"{case}_{sequence}.nii.gz" for sequence in ("C0", "LGE", "T2"))
    place.command(
        "rl_nnunet_convert_unpaired", "-d", "542", "-n", "MyoPS", "--orientation", "keep",
        "--branch", f"heart={images}:{case}_gd.nii.gz", "--channels", "heart=bSSFP,LGE,T2", "--labels", *MYOPS_LABELS,
        "--hold_out", *MYOPS_HELD_OUT, "-np", "1",
    )  # fmt: skip
    file = place.path("nnUNet_raw", DATA["myops"].dataset, "dataset.json")
    description = json.loads(file.read_text())
    del description["rl_nnunet"]
    file.write_text(json.dumps(description))


def plan(place: Workplace, data: Data, full: bool = False) -> None:
    """Plan with both planners, and give all the same patch, batch and stages: the table's, or of the larger network."""
    size = planned_size(full)
    for planner in PLANNERS:
        place.command(
            "rl_nnunet_plan_and_preprocess", "-d", data.dataset[7:10], "-pl", f"{planner}{size}Planner",
            "-c", data.configuration, "-npfp", "1", "-np", "1", *data.planning, nnUNet_n_proc_DA="1",
        )  # fmt: skip
    folder = place.path("nnUNet_preprocessed", data.dataset)
    files = {planner: folder / f"{planner}{size}Plans.json" for planner in PLANNERS}
    plans = {planner: json.loads(file.read_text()) for planner, file in files.items()}
    larger = plans["IntraInter"]["configurations"][data.configuration]
    entries = data.entries or {key: larger[key] for key in ("patch_size", "batch_size")}
    arguments = {name: each["configurations"][data.configuration]["architecture"]["arch_kwargs"]
                 for name, each in plans.items()}  # fmt: skip
    arguments["IntraInter"] |= {key: arguments["RLXAlign"][key] for key in TOPOLOGY}
    modalities = len(larger["normalization_schemes"])
    chosen = modality_encoder(arguments["IntraInter"], modalities, entries["patch_size"])
    arguments["IntraInter"]["modality_encoder"] = chosen
    for planner, file in files.items():
        plans[planner]["configurations"][data.configuration].update(entries)
        file.write_text(json.dumps(plans[planner]))
    stock = stock_plans(plans["RLXAlign"], STOCK, range(modalities), entries["batch_size"], data.configuration)
    (folder / f"{STOCK}.json").write_text(json.dumps(stock))


def dice_of(place: Workplace, data: Data, model: Path) -> pd.DataFrame:
    """Return the mean Dice of each subset (rows) and structure (columns) over the held-out cases."""
    raw = place.path("nnUNet_raw", data.dataset)
    counts = evaluate_subsets(
        TrainedModel(model, ("all",)), raw / "imagesTs", raw / "labelsTs", model / "subsets", device=place.device,
        mirroring=False, allow_tqdm=False,
    )  # fmt: skip
    return mean_per_subset(dice_per_case(counts)).drop(columns="cases")


def inter_weights(model: Path) -> dict[str, float]:
    """Return the inter agent's mean weight of every modality in the last epoch, and what the agents gain.

    The gain p_T - p_0 is the sum of an episode's rewards. It has less room the better iteration 0 becomes; hence also
    its share of what iteration 0 leaves, 1 - p_0.
    """
    log = torch.load(model / "fold_all" / "checkpoint_final.pth", weights_only=False, map_location="cpu")["logging"]
    row = {key.removeprefix("weight_"): values[-1] for key, values in log.items() if key.startswith("weight_")}
    probabilities = [values for key, values in log.items() if key.startswith("probability_iteration")]
    for name, epoch in {"first": 0, "last": -1}.items():
        start, end = probabilities[0][epoch], probabilities[-1][epoch]
        row |= {f"gain, {name} epoch": end - start, f"share, {name} epoch": (end - start) / (1 - start)}
    return row


def report(results: pd.DataFrame, key: str) -> str:
    """Return the mean over the seeds and the spread (SD) of the last column, a row per trainer, in Markdown."""
    rows = results.groupby("row", sort=False)
    table = rows[[column for column in results if column not in ("row", "seed")]].mean()
    table[f"{key} SD"] = rows[key].std(ddof=1)
    table.index = [f"{row} ({len(rows.get_group(row))} seeds)" for row in table.index]
    return markdown(table)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", choices=tuple(DATA), default="phantom")
    parser.add_argument("--rows", nargs="*", default=DEFAULT_ROWS, help="TRAINER:STEPS, or TRAINER with --steps")
    parser.add_argument("--steps", type=int, default=1000, help="of rows that do not say; a multiple of 50")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, default=32, help="voxels along the longest axis of a phantom")
    parser.add_argument("--cases", type=int, default=20, help="training phantoms")
    parser.add_argument("--noise_sequence", help="this sequence of the phantoms is pure noise")
    parser.add_argument("--weights_only", action="store_true", help="report the inter agent's weights, no Dice")
    parser.add_argument("--sgd", action="store_true", help="keep the trainers' optimizers, in place of AdamW")
    parser.add_argument("--full", action="store_true", help="plan the usual networks and patches, not the small ones")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    return parser.parse_args()


def main() -> None:
    """Run what is missing and print the tables."""
    arguments = parse()
    place, data = Workplace(arguments.output, arguments.device, arguments.sgd), DATA[arguments.data]
    data = data._replace(planning=(), entries={}) if arguments.full else data
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_preprocessed", data.dataset, f"{STOCK}.json").is_file():
        if arguments.data == "phantom":
            convert_phantom(place, arguments.size, arguments.cases, arguments.noise_sequence)
        else:
            convert_myops(place, real_data("myops"))
        plan(place, data, arguments.full)
    given = (row.partition(":") for row in arguments.rows)
    rows = [Row(name, int(steps or arguments.steps), arguments.full) for name, _, steps in given]
    subsets, structures = (Results(place.root / f"{name}{place.variant}.csv") for name in ("subsets", "structures"))
    weights = []
    for seed in arguments.seeds:
        for row in rows:
            run = {"row": row.name, "seed": seed}
            if structures.has(run) and not arguments.weights_only:
                continue
            model = place.train(data.dataset, row.trainer, row.plans, row.steps, seed, data.configuration)
            if arguments.weights_only:
                weights.append({**run, **inter_weights(model)})
                continue
            dice = dice_of(place, data, model)
            subsets.add(run, [dice["mean"]])
            structures.add(run, [dice.loc["mean"]])
            print(subsets.rows[-1], flush=True)
    if weights:
        print(markdown(pd.DataFrame(weights).set_index("row")))
    elif structures.rows:
        print(f"Mean over the structures\n\n{report(subsets.table, 'mean')}\n")
        print(f"Mean over the subsets\n\n{report(structures.table, 'mean')}")


if __name__ == "__main__":
    main()
