"""Paired sequences, all there or one missing: RL-XAlign and the intra-/inter-modality agents against stock nnU-Net.

All rows have the same patch, encoder and decoder, number of seen patches and optimizer. Every model predicts the
held-out cases with all sequences, and once per sequence with that one replaced by zeros.

``--data phantom``: BraTS look-alikes, regions WT, TC and ET; ``--data myops``: MyoPS 2020 (bSSFP, LGE and T2 of the
heart), found through ``RL_NNUNET_DATA``, five cases held out.

    python benchmarks/paired.py -o FOLDER --data phantom --epochs 6 --iterations 50
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from workflow import Workplace, markdown, real_data, stock_plans

DATASETS = {"phantom": "Dataset541_PhantomTumors", "myops": "Dataset542_MyoPS"}
# The few, thick slices of MyoPS give 3D patches of one slice, on which nnU-Net's augmentation stumbles.
CONFIGURATIONS = {"phantom": "3d_fullres", "myops": "2d"}
STOCK = "StockPlans"
MODELS = {
    "nnUNetTrainer": STOCK,
    "RLXAlignTrainer": "RLXAlignSmallPlans",
    "IntraInterTrainer": "IntraInterSmallPlans",
    "IntraInterTrainerNoInter": "IntraInterSmallPlans",
    "IntraInterTrainerNoAgents": "IntraInterSmallPlans",
}
MYOPS_HELD_OUT = ("Case3005", "Case3018", "Case3028", "Case3038", "Case3042")
MYOPS_LABELS = ("background=0", "myocardium=200", "left_ventricle=500", "right_ventricle=600", "edema=1220",
                "scar=2221")  # fmt: skip


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
    file = place.path("nnUNet_raw", DATASETS["myops"], "dataset.json")
    description = json.loads(file.read_text())
    del description["rl_nnunet"]
    file.write_text(json.dumps(description))


def plan(place: Workplace, dataset: str, configuration: str) -> None:
    """Plan with both planners on one patch size, and give stock nnU-Net the same patch, encoder and decoder."""
    for planner in ("RLXAlignSmallPlanner", "IntraInterSmallPlanner"):
        place.command(
            "rl_nnunet_plan_and_preprocess", "-d", dataset[7:10], "-pl", planner, "-c", configuration, "-npfp", "1",
            "-np", "1", nnUNet_n_proc_DA="1",
        )  # fmt: skip
    folder = place.path("nnUNet_preprocessed", dataset)
    files = {planner: folder / f"{planner}SmallPlans.json" for planner in ("RLXAlign", "IntraInter")}
    ours = {planner: json.loads(file.read_text()) for planner, file in files.items()}
    configurations = {planner: plans["configurations"][configuration] for planner, plans in ours.items()}
    # The larger network decides on the patch; strides and kernels belong to it.
    for key in ("patch_size", "batch_size"):
        configurations["RLXAlign"][key] = configurations["IntraInter"][key]
    topology = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_blocks_per_stage",
                "n_conv_per_stage_decoder")  # fmt: skip
    arguments = {planner: entry["architecture"]["arch_kwargs"] for planner, entry in configurations.items()}
    if any(arguments["RLXAlign"][key] != arguments["IntraInter"][key] for key in topology):
        raise SystemExit("The planners chose different topologies; give them another -gpu_memory_target.")
    files["RLXAlign"].write_text(json.dumps(ours["RLXAlign"]))
    channels = range(len(arguments["IntraInter"]["modality_names"]))
    stock = stock_plans(ours["IntraInter"], STOCK, tuple(channels), configurations["IntraInter"]["batch_size"],
                        configuration)  # fmt: skip
    (folder / f"{STOCK}.json").write_text(json.dumps(stock))


def blank_copy(image: Path, folder: Path) -> Path:
    """Return an all-zero image with the geometry of another."""
    target = folder / image.name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.ReadImage(str(image)) * 0, str(target), True)
    return target


def evaluate(place: Workplace, model: Path, dataset: str) -> dict[str, pd.Series]:
    """Return the mean Dice per structure, with all sequences and with each missing."""
    raw = place.path("nnUNet_raw", dataset)
    names = json.loads((raw / "dataset.json").read_text())["channel_names"]
    predictor = nnUNetPredictor(device=torch.device(place.device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), ("all",), "checkpoint_final.pth")
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (raw / "imagesTs").glob("*_0000.nii.gz"))
    results = {}
    for missing in (None, *names):
        column = "all" if missing is None else f"without {names[missing]}"
        target = place.root / "predictions" / model.name / column.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        images = [
            [
                str(blank_copy(image, place.root / "blank") if channel == missing else image)
                for channel in names
                for image in [raw / "imagesTs" / f"{case}_{int(channel):04}.nii.gz"]
            ]
            for case in cases
        ]
        predictor.predict_from_files(images, [str(target / case) for case in cases], overwrite=True,
                                     num_processes_preprocessing=1, num_processes_segmentation_export=1)  # fmt: skip
        results[column] = place.dice(raw / "labelsTs", target, model).mean()
    return results


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


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", choices=tuple(DATASETS), default="phantom")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS)[:3])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=50, help="per epoch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, default=32, help="voxels along the longest axis of a phantom")
    parser.add_argument("--cases", type=int, default=20, help="training phantoms")
    parser.add_argument("--noise_sequence", help="this sequence of the phantoms is pure noise")
    parser.add_argument("--weights_only", action="store_true", help="report the inter agent's weights, no Dice")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place, dataset = Workplace(arguments.output, arguments.device), DATASETS[arguments.data]
    configuration = CONFIGURATIONS[arguments.data]
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_preprocessed", dataset, f"{STOCK}.json").is_file():
        if arguments.data == "phantom":
            convert_phantom(place, arguments.size, arguments.cases, arguments.noise_sequence)
        else:
            convert_myops(place, real_data("myops"))
        plan(place, dataset, configuration)
    dice, weights = [], {}
    for trainer in arguments.models:
        for seed in arguments.seeds:
            model = place.train(dataset, f"{trainer}Benchmark", MODELS[trainer], arguments.epochs,
                                arguments.iterations, seed, configuration)  # fmt: skip
            if trainer.startswith("IntraInterTrainer") and not trainer.endswith(("NoInter", "NoAgents")):
                weights[f"{trainer}, seed {seed}"] = inter_weights(model)
            if not arguments.weights_only:
                for column, means in evaluate(place, model, dataset).items():
                    dice.append({"trainer": trainer, "seed": seed, "scans": column, **means})
                pd.DataFrame(dice).to_csv(place.root / "dice.csv", index=False)
            # nnU-Net names models without the seed: make room for the next.
            kept = place.root / f"{model.name}_seed{seed}"
            shutil.rmtree(kept, ignore_errors=True)
            model.rename(kept)
    print(f"{arguments.epochs * arguments.iterations} steps, seeds {arguments.seeds}\n")
    if dice:
        table = pd.DataFrame(dice).drop(columns="seed").groupby(["trainer", "scans"], sort=False).mean()
        table.index = table.index.map(", ".join)
        print(markdown(table), end="\n\n")
    if weights:
        print(markdown(pd.DataFrame(weights).T))


if __name__ == "__main__":
    main()
