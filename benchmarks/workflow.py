"""What the benchmarks on held-out cases share: run commands, derive stock plans, train, predict, tabulate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd

from rl_nnunet.environment import DATA_VARIABLES, exports
from rl_nnunet.files import new_file

STOCK_CLASS = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
STOCK_ARGUMENTS = (
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs",
)  # fmt: skip
TRAINERS = Path(__file__).parent / "trainers"
EPOCH_STEPS = 50

# nnU-Net's commands take all cores; its Python API leaves the threads to OMP_NUM_THREADS, so that two runs of a
# benchmark can share a machine.
TRAIN = """
import sys, torch
from nnunetv2.run.run_training import run_training
dataset, configuration, fold, trainer, plans, device, goes_on = sys.argv[1:]
run_training(dataset, configuration, fold, trainer, plans, device=torch.device(device),
             continue_training=goes_on == "yes")
"""
PREDICT = """
import sys, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
model, source, target, device, fold = sys.argv[1:]
predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(model, (fold,), "checkpoint_final.pth")
predictor.predict_from_files(source, target, num_processes_preprocessing=1, num_processes_segmentation_export=1)
"""


class Workplace:
    """A folder with nnU-Net's three folders, in which commands run.

    Parameters
    ----------
    root : Path
        The folder.
    device : str
        ``cpu`` or ``cuda``.
    sgd : bool
        Trainings keep the optimizer of their trainer, nnU-Net's SGD for most, in place of AdamW.
    epoch_steps : int
        Steps of an epoch.
    """

    def __init__(self, root: Path, device: str, sgd: bool = False, epoch_steps: int = EPOCH_STEPS) -> None:
        self.root = root.resolve()
        self.device = device
        self.sgd = sgd
        self.epoch_steps = epoch_steps
        self.variables = exports({"nnUNet_extTrainer": str(TRAINERS.resolve())}, self.root)
        for name in DATA_VARIABLES:
            Path(self.variables[name]).mkdir(parents=True, exist_ok=True)

    @property
    def variant(self) -> str:
        """What tells results of other optimizers and other epochs from the usual ones, for names of files."""
        epochs = "" if self.epoch_steps == EPOCH_STEPS else f"_epochs_of_{self.epoch_steps}"
        return ("_sgd" if self.sgd else "") + epochs

    def path(self, variable: str, *parts: str) -> Path:
        """Return a path below one of nnU-Net's folders."""
        return Path(self.variables[variable], *parts)

    def command(self, *words: str, **variables: str) -> None:
        """Run a command of this environment; its output goes to ``log.txt``."""
        executable = Path(sys.executable).parent / words[0]
        print(f"{time.strftime('%H:%M:%S')} {' '.join(words)[:160]}", flush=True)
        environment = {**os.environ, **self.variables, **variables}
        with open(self.root / "log.txt", "a") as log:
            subprocess.run([str(executable), *words[1:]], env=environment, check=True, stdout=log, stderr=log)

    def train(
        self,
        dataset: str,
        trainer: str,
        plans: str,
        steps: int,
        seed: int,
        configuration: str = "3d_fullres",
        fold: str = "all",
    ) -> Path:
        """Train on the training cases of a fold, by default all, and return the model's folder.

        Every number of steps, every seed, optimizer and length of epochs has a folder of results of its own. A finished
        training is not repeated, and one that was stopped goes on.
        """
        results = self.path("nnUNet_results", f"{steps}_steps_seed_{seed}{self.variant}")
        model = results / dataset / f"{trainer}Benchmark__{plans}__{configuration}"
        if not (model / f"fold_{fold}" / "checkpoint_final.pth").is_file():
            goes_on = (model / f"fold_{fold}" / "checkpoint_latest.pth").is_file()
            results.mkdir(parents=True, exist_ok=True)
            self.command(
                "python", "-c", TRAIN, dataset, configuration, fold, f"{trainer}Benchmark", plans, self.device,
                "yes" if goes_on else "no", nnUNet_results=str(results), RL_NNUNET_SEED=str(seed),
                nnUNet_n_proc_DA="0" if self.device == "cpu" else "12", BENCHMARK_STEPS=str(steps),
                BENCHMARK_SGD="yes" if self.sgd else "", BENCHMARK_EPOCH_STEPS=str(self.epoch_steps),
            )  # fmt: skip
        return model

    def predict(self, model: Path, source: Path, target: Path, fold: str = "all") -> None:
        """Predict all cases of a folder."""
        self.command("python", "-c", PREDICT, str(model), str(source), str(target), self.device, fold)

    def dice(self, reference: Path, prediction: Path, model: Path) -> pd.DataFrame:
        """Return the Dice of each case (rows) and label (columns), from nnU-Net's own evaluation."""
        self.command(
            "nnUNetv2_evaluate_folder", str(reference), str(prediction), "-djfile", str(model / "dataset.json"),
            "-pfile", str(model / "plans.json"), "-np", "1", "--chill",
        )  # fmt: skip
        labels = json.loads((model / "dataset.json").read_text())["labels"]
        names = {str(tuple(v) if isinstance(v, list) else v): k for k, v in labels.items()}
        cases = json.loads((prediction / "summary.json").read_text())["metric_per_case"]
        return pd.DataFrame(
            [{names[label]: m["Dice"] for label, m in case["metrics"].items()} for case in cases],
            index=[Path(case["prediction_file"]).name.split(".")[0] for case in cases],
        )


class Results:
    """The table of a benchmark on disk: finished runs add rows to it, and are not repeated.

    Parameters
    ----------
    file : Path
        The table, which need not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []

    @property
    def table(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame(self.rows)

    def has(self, run: Mapping[str, Any]) -> bool:
        """Return whether there are rows of a run: with all of its entries."""
        return any(all(str(row.get(key)) == str(value) for key, value in run.items()) for row in self.rows)

    def add(self, run: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the rows of a run, each with the run's entries before its own."""
        self.rows += [{**run, **row} for row in rows]
        with new_file(self.file) as file:
            self.table.to_csv(file, index=False)


def real_data(name: str) -> Path:
    """Return a folder of real volumes, which are not in this repository."""
    folder = Path(os.environ.get("RL_NNUNET_DATA", ""), name).resolve()
    if "RL_NNUNET_DATA" not in os.environ or not folder.is_dir():
        raise SystemExit(f"Set RL_NNUNET_DATA to a folder that holds {name}.")
    return folder


def planned_size(full: bool) -> str:
    """Return what stands in the names of our planners and plans for the size of their networks."""
    return "" if full else "Small"


def stock_plans(
    plans: dict[str, Any], name: str, channels: Sequence[int], batch_size: int, configuration_name: str = "3d_fullres"
) -> dict[str, Any]:
    """Return plans of nnU-Net's residual encoder U-Net with patch size, encoder and decoder of our plans.

    Parameters
    ----------
    plans : dict
        Plans of a planner of ours.
    name : str
        Name of the new plans.
    channels : sequence of int
        Input channels to keep.
    batch_size : int
        Batch size of the new plans.
    configuration_name : str
        The configuration to keep.
    """
    plans = deepcopy(plans)
    plans["plans_name"] = name
    configuration = plans["configurations"][configuration_name]
    plans["configurations"] = {configuration_name: configuration}
    configuration.pop("next_stage", None)
    configuration["batch_size"] = batch_size
    properties = plans["foreground_intensity_properties_per_channel"]
    plans["foreground_intensity_properties_per_channel"] = {
        str(i): properties[str(channel)] for i, channel in enumerate(channels)
    }
    for key in ("normalization_schemes", "use_mask_for_norm"):
        configuration[key] = [configuration[key][channel] for channel in channels]
    architecture = configuration["architecture"]
    architecture["network_class_name"] = STOCK_CLASS
    arguments = architecture["arch_kwargs"]
    architecture["arch_kwargs"] = {key: arguments[key] for key in STOCK_ARGUMENTS}
    return plans


def markdown(table: pd.DataFrame) -> str:
    """Return a table of Dice coefficients in Markdown."""
    header = ["", *map(str, table.columns)]
    rows = [
        [str(index), *(f"{value:.3f}" for value in row)] for index, row in zip(table.index, table.values, strict=True)
    ]
    lines = [header, ["---", *["---:"] * len(table.columns)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
