"""The ablations of RL-U2Net's Table 2 on phantom hearts, and whether XAlign ever costs.

Trained on unpaired CT and MR phantoms, tested on held-out hearts of which both scans exist. Per trainer and seed four
columns: the Dice of CT alone and MR alone, and that of either branch while both scans are present.

A finished run (trainer, seed) is not repeated, and a stopped one goes on.

    python benchmarks/phantom.py -o FOLDER --steps 900 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pandas as pd
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn
from workflow import Workplace, markdown

DATASET, PLANS = "Dataset531_PhantomHearts", "RLXAlignSmallPlans"
BRANCHES = ("CT", "MRI")
ABLATIONS = ("", "NoXAlign", "NoCMA", "NoAuxLoss", "NoAGWD", "GlobalPolicy")


class OneBranch(nn.Module):
    """A network that returns one branch's logits and not the mean of all."""

    def __init__(self, network: nn.Module, branch: int) -> None:
        super().__init__()
        self.network = network
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch's logits."""
        return self.network.forward_branches(x).logits[self.branch]

    def load_state_dict(self, *args: object, **kwargs: object) -> object:
        """Load the weights of the whole network, as nnU-Net's predictor does before each case."""
        return self.network.load_state_dict(*args, **kwargs)


def prepare(place: Workplace, size: int, cases: int, test_cases: int) -> None:
    """Make, convert and plan the phantoms."""
    phantom = str(place.root / "phantom")
    place.command(
        "rl_nnunet_make_phantom", "-o", phantom, "--cases", str(cases), "--test_cases", str(test_cases),
        "--paired_test", "--test_labels", "--size", str(size), "-np", "1",
    )  # fmt: skip
    place.command(
        "rl_nnunet_convert_mmwhs", "-i", phantom, "-d", "531", "-n", "PhantomHearts", "--pair_test", "-np", "1"
    )
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", "531", "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp", "1",
        "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip


def evaluate(place: Workplace, model: Path) -> dict[str, float]:
    """Return the mean Dice over structures and cases: each modality alone, and each branch with both scans."""
    raw = place.path("nnUNet_raw", DATASET)
    folder = model / "predictions"
    predictor = nnUNetPredictor(device=torch.device(place.device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), ("all",), "checkpoint_final.pth")
    network = predictor.network
    scans = {path.name.split("_0000")[0] for path in (raw / "imagesTs").glob("*_0000.nii.gz")}
    runs = {
        "CT alone": ("ct_test", network), "MRI alone": ("mr_test", network),
        **{f"{name} of both": ("pair", OneBranch(network, b)) for b, name in enumerate(BRANCHES)},
        "mean of both": ("pair", network),
    }  # fmt: skip
    row = {}
    for column, (prefix, view) in runs.items():
        predictor.network = view
        chosen = sorted(scan for scan in scans if scan.startswith(prefix))
        files = [[str(raw / "imagesTs" / f"{scan}_{channel:04}.nii.gz") for channel in range(2)] for scan in chosen]
        target = folder / column.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        predictor.predict_from_files(files, [str(target / scan) for scan in chosen], overwrite=True,
                                     num_processes_preprocessing=1, num_processes_segmentation_export=1)  # fmt: skip
        row[column] = place.dice(raw / "labelsTs", target, model).mean(axis=None)
    return row


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900, help="a multiple of 50")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of RLXAlignTrainer and NoXAlign")
    parser.add_argument("--ablation_seeds", type=int, nargs="+", default=[0], help="of the other ablations")
    parser.add_argument("--ablations", nargs="*", default=ABLATIONS, help="default: all")
    parser.add_argument("--size", type=int, default=32, help="voxels along a CT's longest axis")
    parser.add_argument("--cases", type=int, default=16, help="training cases per modality")
    parser.add_argument("--test_cases", type=int, default=8, help="held-out hearts")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    place = Workplace(arguments.output, arguments.device)
    os.environ.update(place.variables)  # the predictor runs in this process
    if not place.path("nnUNet_raw", DATASET).is_dir():
        prepare(place, arguments.size, arguments.cases, arguments.test_cases)
    rows = []
    for ablation in arguments.ablations:
        for seed in arguments.seeds if ablation in ("", "NoXAlign") else arguments.ablation_seeds:
            trainer = f"RLXAlignTrainer{ablation}"
            model = place.train(DATASET, trainer, PLANS, arguments.steps, seed)
            rows.append({"trainer": trainer, "seed": seed, **evaluate(place, model)})
            pd.DataFrame(rows).to_csv(place.root / "dice.csv", index=False)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).drop(columns="seed").groupby("trainer", sort=False)
    print(f"{arguments.steps} steps, {arguments.test_cases} held-out hearts\n")
    print(markdown(table.mean()))


if __name__ == "__main__":
    main()
