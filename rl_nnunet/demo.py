"""``rl_nnunet_demo``: the whole workflow on phantom hearts, with the commands that a user would type.

Phantom, conversion, planning, training, prediction of held-out CT-only, MR-only and CT+MR scans, evaluation. Every
command is printed before it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rl_nnunet.command_line import make_parser, path_argument, whole_number
from rl_nnunet.environment import DATA_VARIABLES, SEED_VARIABLE, exports, trainers_folder
from rl_nnunet.errors import InputError, run_command

OUTPUT = "demo_output"
DATASET_ID = 901
DATASET = f"Dataset{DATASET_ID}_PhantomHearts"
TRAINER, PLANS, CONFIGURATION, FOLD = "RLXAlignTrainerDemo", "RLXAlignSmallPlans", "3d_fullres", "0"
SEED = "1"
"""Unless the environment has another. On a CPU, a demo with the same seed and number of threads repeats its figures."""
GROUPS = {"ct_test": "CT only", "mr_test": "MRI only", "pair": "CT + MRI"}


def main() -> None:
    """Run the command."""
    run_command(_run)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "rl_nnunet_demo", "Run the whole workflow on phantom hearts: convert, plan, train, predict, evaluate."
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path_argument,
        metavar="FOLDER",
        help=f"new or empty folder to write (default: {OUTPUT}, or {OUTPUT}_2 and so on where it is there already)",
    )
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda", "mps"), help="default: cpu")
    parser.add_argument("-np", "--processes", type=whole_number(1), default=2, help="processes (default: 2)")
    parser.add_argument("--cases", type=whole_number(2), default=10, help="training cases per modality (default: 10)")
    parser.add_argument("--test_cases", type=whole_number(1), default=3, help="held-out hearts (default: 3)")
    parser.add_argument(
        "--size", type=whole_number(16), default=32, help="voxels along a CT's longest axis (default: 32)"
    )
    parser.add_argument("--trainer", default=TRAINER, help=f"default: {TRAINER}")
    return parser


def _run() -> None:
    arguments = _parser().parse_args()
    _check_trainer(arguments.trainer)
    root = _output_folder(arguments.output)
    variables = exports({}, root)
    for name in DATA_VARIABLES:
        Path(variables[name]).mkdir()
    start = time.monotonic()
    _Workflow(root, arguments, variables).run()
    print(f"\nThe demo took {(time.monotonic() - start) / 60:.1f} minutes.")


def _check_trainer(name: str) -> None:
    """Refuse a trainer that nnU-Net would not find, before anything is computed."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    found = recursive_find_python_class(str(trainers_folder()), name, "rl_nnunet.trainers")
    if not (isinstance(found, type) and issubclass(found, nnUNetTrainer)):
        raise InputError(f"--trainer: rl_nnunet has no trainer {name!r}; check its spelling, or leave it out.")


def _output_folder(asked: Path | None) -> Path:
    """Return the new folder of the demo; one that holds anything is never touched."""
    numbered = (Path(f"{OUTPUT}_{number}" if number > 1 else OUTPUT).absolute() for number in itertools.count(1))
    root = next(folder for folder in numbered if not os.path.lexists(folder)) if asked is None else asked
    if os.path.lexists(root) and not root.is_dir():
        raise InputError(f"{root} is not a folder; give an empty or new one with -o.")
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise InputError(f"{root} is not empty; give an empty or new folder with -o.")
    return root


class _Workflow:
    """The commands of the demo, in order."""

    def __init__(self, root: Path, arguments: argparse.Namespace, variables: dict[str, str]) -> None:
        self.root = root
        self.arguments = arguments
        # Each name that is exported here is printed, so that the commands can be repeated by hand.
        self.variables = {
            **variables,
            "nnUNet_n_proc_DA": str(arguments.processes),
            SEED_VARIABLE: os.environ.get(SEED_VARIABLE) or SEED,
        }
        self.raw = Path(variables["nnUNet_raw"], DATASET)
        self.model = Path(variables["nnUNet_results"], DATASET, f"{arguments.trainer}__{PLANS}__{CONFIGURATION}")
        self.predictions = root / "predictions"

    def run(self) -> None:
        """Run all steps."""
        arguments, np = self.arguments, str(self.arguments.processes)
        print("The commands below ran with these settings:")
        for name, value in self.variables.items():
            print(f"  export {name}={shlex.quote(value)}")
        phantom = self.root / "phantom"
        self.command(
            "Make phantom hearts in the layout of MM-WHS",
            "rl_nnunet_make_phantom", "-o", str(phantom), "--cases", str(arguments.cases), "--test_cases",
            str(arguments.test_cases), "--paired_test", "--test_labels", "--size", str(arguments.size), "-np", np,
        )  # fmt: skip
        self.command(
            "Convert to nnU-Net's raw format",
            "rl_nnunet_convert_mmwhs", "-i", str(phantom), "-d", str(DATASET_ID), "-n", "PhantomHearts", "--pair_test",
            "-np", np,
        )  # fmt: skip
        self.command(
            "Extract the fingerprint, plan and preprocess",
            "rl_nnunet_plan_and_preprocess", "-d", str(DATASET_ID), "-pl", "RLXAlignSmallPlanner", "-c", CONFIGURATION,
            "--verify_dataset_integrity", "-npfp", np, "-np", np,
        )  # fmt: skip
        model = ("-p", PLANS, "-tr", arguments.trainer, "-device", arguments.device)
        # On a CPU, augmentation in background processes would only compete with the network for the cores.
        in_this_process = {"nnUNet_n_proc_DA": "0"} if arguments.device == "cpu" else {}
        self.command("Train", "nnUNetv2_train", str(DATASET_ID), CONFIGURATION, FOLD, *model, **in_this_process)
        self.command(
            "Predict new CT-only, MR-only and CT+MR scans",
            "nnUNetv2_predict", "-i", str(self.raw / "imagesTs"), "-o", str(self.predictions), "-d", str(DATASET_ID),
            "-c", CONFIGURATION, "-f", FOLD, "-npp", "1", "-nps", "1", *model,
        )  # fmt: skip
        self.command(
            "Evaluate",
            "nnUNetv2_evaluate_folder", str(self.raw / "labelsTs"), str(self.predictions), "-djfile",
            str(self.model / "dataset.json"), "-pfile", str(self.model / "plans.json"), "-np", np,
        )  # fmt: skip
        self.report()

    def command(self, title: str, *words: str, **variables: str) -> None:
        """Print a command and run it."""
        prefix = "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())
        print(f"\n### {title}\n$ {prefix}{shlex.join(words)}", flush=True)
        # The commands are those of the environment that this one is installed in, whatever PATH says.
        executable = Path(sys.executable).parent / words[0]
        result = subprocess.run(
            [str(executable), *words[1:]], env={**os.environ, **self.variables, **variables}, check=False
        )
        if result.returncode != 0:
            raise InputError(f"{words[0]} ended with exit code {result.returncode}; its message is above.")

    def report(self) -> None:
        """Print the Dice per structure and kind of scan, and draw the overlays."""
        import pandas as pd

        from rl_nnunet.evaluation.overlay import draw_overlays

        labels = json.loads((self.raw / "dataset.json").read_text())["labels"]
        names = {str(value): name for name, value in labels.items()}
        rows, pictures = [], []
        for case in json.loads((self.predictions / "summary.json").read_text())["metric_per_case"]:
            identifier = Path(case["reference_file"]).name.split(".")[0]
            group = next(title for prefix, title in GROUPS.items() if identifier.startswith(prefix))
            dice = {names[label]: metrics["Dice"] for label, metrics in case["metrics"].items()}
            if group not in {row["scan"] for row in rows}:
                channel = "0001" if group == GROUPS["mr_test"] else "0000"
                image = self.raw / "imagesTs" / f"{identifier}_{channel}.nii.gz"
                pictures.append((group, str(image), case["reference_file"], case["prediction_file"]))
            rows.append({"scan": group, **dice})
        table = pd.DataFrame(rows).groupby("scan").mean()
        table.insert(0, "mean", table.mean(axis=1))
        draw_overlays(pictures, str(self.root / "overlays.png"))
        table.to_csv(self.root / "dice.csv")
        print(f"\n### Dice of {self.arguments.test_cases} held-out hearts\n")
        print(table.T.to_string(float_format=lambda x: f"{x:.3f}"))
        print(f"\nPictures: {self.root / 'overlays.png'}; curves: {self.model / f'fold_{FOLD}' / 'progress_rl.png'}")
