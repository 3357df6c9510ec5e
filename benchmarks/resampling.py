"""Export and preprocessing with nnU-Net's default resampling and with --fast_resampling: time, memory, labels, Dice.

OMP_NUM_THREADS=1 RL_NNUNET_DATA=... python benchmarks/resampling.py -o FOLDER --size 400 400 300

Each measurement is a process of its own on one core. Without RL_NNUNET_DATA, the Dice of real labels is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter, zoom
from workflow import markdown, real_data

from rl_nnunet.planners.fast_resampling import FastResampling

PLANNERS = {"default": ExperimentPlanner, "fast": FastResampling}
STRUCTURES = 8
GRIDS = {"isotropic": ((0.75, 0.75, 0.75), (1.0, 1.0, 1.0)), "anisotropic": ((3.0, 0.75, 0.75), (4.0, 1.0, 1.0))}
"""Spacing of the scan and planned spacing in mm, (z, y, x)."""
REAL_GRIDS = {"1.5 mm": (1.5, 1.5, 1.5), "4 x 1.3 x 1.3 mm": (4.0, 1.3, 1.3)}
"""Planned spacings for real labels of 1 mm."""


def plans_of(method: str, spacing: Sequence[float], labels: int) -> tuple[PlansManager, dict[str, Any]]:
    """Return what a planner says of resampling, as plans, and a ``dataset.json``."""
    planner, entries = PLANNERS[method], {}
    data, data_arguments, seg, seg_arguments = planner.determine_resampling(None)
    probabilities, arguments = planner.determine_segmentation_softmax_export_fn(None)
    functions = {
        "data": (data, data_arguments),
        "seg": (seg, seg_arguments),
        "probabilities": (probabilities, arguments),
    }
    for what, (function, its_arguments) in functions.items():
        entries[f"resampling_fn_{what}"] = function.__name__
        entries[f"resampling_fn_{what}_kwargs"] = its_arguments
    plans = {
        "plans_name": method,
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": {"spacing": list(spacing), "architecture": {}, **entries}},
    }
    names = {"background": 0, **{f"structure {label}": label for label in range(1, labels + 1)}}
    return PlansManager(plans), {"labels": names, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


def properties_of(shape: Sequence[int], spacing: Sequence[float]) -> dict[str, Any]:
    """Return what nnU-Net notes of a scan of which nothing is cropped."""
    geometry = {"spacing": spacing[::-1], "origin": (0.0, 0.0, 0.0), "direction": tuple(np.eye(3).ravel())}
    return {
        "spacing": list(spacing),
        "shape_before_cropping": tuple(shape),
        "shape_after_cropping_and_before_resampling": tuple(shape),
        "bbox_used_for_cropping": [[0, int(size)] for size in shape],
        "sitk_stuff": geometry,
    }


def synthetic_logits(shape: Sequence[int]) -> np.ndarray:
    """Return logits of a background and ellipsoids with smooth noise, in half precision as nnU-Net's predictor's."""
    generator = np.random.default_rng(0)
    logits = np.empty((1 + STRUCTURES, *shape), np.float16)
    axes = np.meshgrid(*(np.linspace(0, 1, size, dtype=np.float32) for size in shape), indexing="ij", sparse=True)
    for label in range(1 + STRUCTURES):
        noise = gaussian_filter(generator.standard_normal(shape, np.float32), 2)
        logits[label] = noise / noise.std()
        if label:
            center, radii = generator.uniform(0.25, 0.75, 3), generator.uniform(0.1, 0.25, 3)
            squares = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii, strict=True))
            logits[label] += 10 * (1 - np.sqrt(squares, dtype=np.float32))
    return logits


def measure(folder: Path, task: str, method: str, grid: str, size: Sequence[int]) -> dict[str, float]:
    """Export or preprocess the synthetic case in this process; return its seconds and the peak of its memory."""
    scan_spacing, planned_spacing = GRIDS[grid]
    plans, dataset_json = plans_of(method, planned_spacing, STRUCTURES)
    configuration = plans.get_configuration("3d_fullres")
    if task == "export":
        logits = np.load(folder / f"logits_{grid}.npy")
        output = str(folder / f"{grid}_{method}")
        clocks = time.perf_counter(), time.process_time()
        export_prediction_from_logits(
            logits, properties_of(size, scan_spacing), configuration, plans, dataset_json, output, num_threads_torch=1
        )
    else:
        image = np.random.default_rng(0).standard_normal((1, *size), np.float32)
        segmentation = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{grid}_default.nii.gz")))[None]
        segmentation = segmentation.astype(np.float32)
        shape = compute_new_shape(size, scan_spacing, planned_spacing)
        clocks = time.perf_counter(), time.process_time()
        configuration.resampling_fn_data(image, shape, scan_spacing, planned_spacing)
        configuration.resampling_fn_seg(segmentation, shape, scan_spacing, planned_spacing)
    return {
        "s": time.perf_counter() - clocks[0],
        "CPU s": time.process_time() - clocks[1],
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure_apart(arguments: argparse.Namespace, *words: str) -> dict[str, float]:
    """Run `measure` in a process on one core."""
    size = [str(voxels) for voxels in arguments.size]
    command = [sys.executable, __file__, "-o", str(arguments.output), "--size", *size, "--measure", *words]
    core = {max(os.sched_getaffinity(0))}
    printed = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, core)
    )
    print(*words, printed.stdout.splitlines()[-1], file=sys.stderr, flush=True)
    return json.loads(printed.stdout.splitlines()[-1])


def differing(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of voxels labeled otherwise, of those that are foreground in either, in percent."""
    return 100 * (first != second).sum() / np.maximum(first, second).astype(bool).sum()


def synthetic_table(arguments: argparse.Namespace) -> pd.DataFrame:
    """Return time and memory of both tasks with both methods, and where labels differ after export."""
    size, rows = arguments.size[::-1], {}
    for grid, (scan_spacing, planned_spacing) in GRIDS.items():
        shape = compute_new_shape(size, scan_spacing, planned_spacing)
        np.save(arguments.output / f"logits_{grid}.npy", synthetic_logits(shape))
        for task in ("export", "preprocess"):
            row = {}
            for method in PLANNERS:
                measured = measure_apart(arguments, task, method, grid)
                row |= {f"{method}, {name}": value for name, value in measured.items()}
            rows[f"{task}, {grid}"] = row
        images = [sitk.ReadImage(str(arguments.output / f"{grid}_{method}.nii.gz")) for method in PLANNERS]
        rows[f"export, {grid}"]["labels that differ, %"] = differing(*map(sitk.GetArrayViewFromImage, images))
    return pd.DataFrame.from_dict(rows, orient="index")


def dice(first: np.ndarray, second: np.ndarray, labels: Sequence[int]) -> float:
    """Return the mean Dice of some labels."""
    pairs = [(first == label, second == label) for label in labels]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def real_table(output: Path, cases: int) -> pd.DataFrame:
    """Return the Dice of references of the hippocampus that were brought to a planned grid, and exported back."""
    files, rows = sorted((real_data("hippocampus") / "labelsTr").glob("*.nii.gz"))[:cases], {}
    generator = np.random.default_rng(0)
    for name, planned_spacing in REAL_GRIDS.items():
        table = []
        for file in files:
            reference = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
            shape = compute_new_shape(reference.shape, (1.0, 1.0, 1.0), planned_spacing)
            one_hot = np.stack([reference == label for label in range(3)]).astype(np.float32)
            # By an interpolation that belongs to neither method. Interpolated labels tie exactly in many voxels, where
            # rounding would decide; the logits of a network do not.
            maps = [zoom(one, shape / reference.shape, order=1, grid_mode=True, mode="nearest") for one in one_hot]
            logits = 20 * np.stack(maps) + generator.normal(scale=0.1, size=(3, *shape))
            exported = {}
            for method in PLANNERS:
                plans, dataset_json = plans_of(method, planned_spacing, 2)
                truncated = output / f"real_{method}"
                export_prediction_from_logits(
                    logits.astype(np.float16), properties_of(reference.shape, (1.0, 1.0, 1.0)),
                    plans.get_configuration("3d_fullres"), plans, dataset_json, str(truncated), num_threads_torch=1,
                )  # fmt: skip
                exported[method] = sitk.GetArrayFromImage(sitk.ReadImage(f"{truncated}.nii.gz"))
            row = {method: dice(exported[method], reference, (1, 2)) for method in PLANNERS}
            table.append({**row, "labels that differ, %": differing(exported["default"], exported["fast"])})
        means = pd.DataFrame(table)
        means["largest change"] = (means["fast"] - means["default"]).abs().max()
        rows[f"hippocampus, {name}"] = means.mean()
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=3, default=[400, 400, 300], help="voxels of the scan, x y z")
    parser.add_argument("--cases", type=int, default=60, help="real labels")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.output, *arguments.measure, arguments.size[::-1])))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(markdown(synthetic_table(arguments)), flush=True)
    if "RL_NNUNET_DATA" in os.environ:
        print(markdown(real_table(arguments.output, arguments.cases)))


if __name__ == "__main__":
    main()
