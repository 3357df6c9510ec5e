"""The table of the planned configurations and of what training them needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

SHORTEST_EPOCH = 10
"""In seconds: 250 steps take about that however small they are."""

RESAMPLED = {"data": "images", "seg": "labels", "probabilities": "predictions"}
"""What plans say of how it is resampled, and what we call it."""
RESAMPLING_NAMES = {"resample_data_or_seg_to_shape": "nnU-Net's default", "resample_torch_fornnunet": "torch"}


def describe_resampling(configurations: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on what resamples what; configurations are named if they differ.

    Parameters
    ----------
    configurations : mapping
        The entries of the plans for each of them.
    """
    described: dict[str, list[str]] = {}
    for name, configuration in configurations.items():
        objects: dict[str, list[str]] = {}
        for key, resampled in RESAMPLED.items():
            function = configuration[f"resampling_fn_{key}"]
            objects.setdefault(RESAMPLING_NAMES.get(function, function), []).append(resampled)
        text = "; ".join(f"{function} for {', '.join(several)}" for function, several in objects.items())
        described.setdefault(text, []).append(name)
    if len(described) == 1:
        return f"Resampling: {next(iter(described))}."
    each = [f"{', '.join(names)}: {text}" for text, names in described.items()]
    return f"Resampling of {'. Of '.join(each)}."


def print_plans(planner: type[ExperimentPlanner], name: str, plans_identifier: str) -> None:
    """Print a table of the planned configurations.

    Parameters
    ----------
    planner : type
        What made the plans.
    name : str
        The data set.
    plans_identifier : str
        Name of the plans.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from rl_nnunet.branches import read_dataset_json
    from rl_nnunet.planners.training_cost import estimate_cost

    folder = Path(os.environ["nnUNet_preprocessed"], name)
    plans = PlansManager(str(folder / f"{plans_identifier}.json"))
    outputs = plans.get_label_manager(read_dataset_json(folder / "dataset.json")).num_segmentation_heads
    scale = planner(name)
    print(f"\n{name}, {plans_identifier}")
    print(f"{'configuration':<20}{'patch size':>16}{'batch size':>12}{'memory':>9}{'epoch':>9}  spacing (mm)")
    for configuration in plans.available_configurations:
        plan = plans.get_configuration(configuration)
        cost = estimate_cost(scale, plans, configuration, outputs)
        patch_size = " x ".join(str(size) for size in plan.patch_size)
        spacing = " x ".join(f"{value:.3g}" for value in plan.spacing)
        # Where the maps are small, what they do not count decides: the weights, the start of every step.
        memory = f"{cost.memory_gb:.1f} GB" if cost.memory_gb >= 1 else "< 1 GB"
        epoch = f"{cost.seconds_per_epoch:.0f} s" if cost.seconds_per_epoch >= SHORTEST_EPOCH else "< 10 s"
        print(f"{configuration:<20}{patch_size:>16}{plan.batch_size:>12}{memory:>9}{epoch:>9}  {spacing}")
    configurations = {name: plans.get_configuration(name).configuration for name in plans.available_configurations}
    print(describe_resampling(configurations))
    print("Memory and time per epoch are estimates for a training on an A100; see docs/training.md.")
