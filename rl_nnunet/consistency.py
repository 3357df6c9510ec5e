"""Whether plans, data set and checkpoint fit each other: compared once, before a training or prediction begins.

nnU-Net trusts its JSON files. Whoever edits one of them (plans, renames a branch, and trains) gets a network whose
channels, labels or weights are those of something else, with a traceback at best. Every function here raises
`InputError`, whose sentence says what does not fit what, and what to do.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from rl_nnunet.branches import BranchLayout, blank_values, channel_indices, layout_from_dataset_json
from rl_nnunet.errors import InputError

PLAN_ANEW = "plan and preprocess anew (rl_nnunet_plan_and_preprocess)"
OWN_KEYS = {"agents", "random_state"}
CHECKPOINT_KEYS = (
    "network_weights",
    "optimizer_state",
    "grad_scaler_state",
    "current_epoch",
    "logging",
    "_best_ema",
    "init_args",
    "trainer_name",
)
BLANK_VALUE_TOLERANCE = 1e-4


def is_number(value: Any) -> bool:
    """Return whether a value out of a JSON file is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that is closest, as a question to append to a sentence; empty if none is close."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""


# ---- plans ---------------------------------------------------------------------------------------------------------


def configuration_entry(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return a configuration with all that it inherits, as nnU-Net merges it; the values are those of the plans.

    Raises
    ------
    InputError
        If there is no such configuration, it is a cascade, or it lacks what every configuration has.
    """
    if not isinstance(plans.get("plans_name"), str):
        raise InputError(f"The plans have no plans_name; {PLAN_ANEW}.")
    configurations, where = plans.get("configurations"), f"The plans {plans['plans_name']}"
    if not isinstance(configurations, Mapping) or not configurations:
        raise InputError(f"{where} have no configurations; {PLAN_ANEW}.")
    name, seen, merged = configuration, [], {}
    while name is not None and name not in seen:
        seen.append(name)
        entry = configurations.get(name)
        if not isinstance(entry, Mapping):
            raise InputError(
                f"{where} have no configuration {name}, but {', '.join(configurations)}."
                f"{suggestion(name, configurations)}"
            )
        if "previous_stage" in entry:
            raise InputError(
                f"{name} is a cascade, whose previous segmentation belongs to no branch; "
                "train 3d_fullres or 3d_lowres instead."
            )
        merged = {**entry, **merged}
        name = entry.get("inherits_from")
    if "architecture" not in merged:
        raise InputError(f"{where}, configuration {configuration}: there is no architecture; {PLAN_ANEW}.")
    _check_entry(merged, f"{where}, configuration {configuration}")
    return merged


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    architecture = entry["architecture"]
    kinds = {"network_class_name": str, "arch_kwargs": Mapping, "_kw_requires_import": Sequence}
    for name, kind in kinds.items():
        if not isinstance(architecture, Mapping) or not isinstance(architecture.get(name), kind):
            raise InputError(f"{where}: the architecture has no {name} that can be used; {PLAN_ANEW}.")
    for name in ("spacing", "patch_size", "normalization_schemes"):
        if not isinstance(entry.get(name), list) or not entry[name]:
            raise InputError(f"{where}: there is no {name} that can be used; {PLAN_ANEW}.")
    sizes, strides = [entry.get("batch_size"), *entry["patch_size"]], architecture["arch_kwargs"].get("strides", ())
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"{where}: batch_size and patch_size must be whole numbers above 0; correct them there.")
    for axis, edge in enumerate(entry["patch_size"]):
        steps = [stride[axis] for stride in strides if isinstance(stride, list) and axis < len(stride)]
        if len(entry["patch_size"]) != len(entry["spacing"]) or edge % max(1, math.prod(steps)):
            raise InputError(
                f"{where}: the patch_size {entry['patch_size']} does not fit the spacing and the strides of the "
                f"network, whose product must divide it; {PLAN_ANEW}."
            )


def check_data_set(plans: Mapping[str, Any], entry: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> BranchLayout:
    """Check that channels and labels of a data set are those of its plans, and return its branches."""
    names = dataset_json.get("channel_names", dataset_json.get("modality"))
    if not isinstance(names, Mapping) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise InputError('dataset.json: "channel_names" must name the channels "0", "1" and so on.')
    labels = dataset_json.get("labels")
    if not isinstance(labels, Mapping) or "background" not in labels or len(labels) < 2:
        raise InputError('dataset.json: "labels" must name the background and at least one structure.')
    has_regions = any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values())
    if has_regions and not dataset_json.get("regions_class_order"):
        raise InputError('dataset.json: labels that are regions need a "regions_class_order".')
    schemes = entry["normalization_schemes"]
    if len(names) != len(schemes):
        raise InputError(
            f"dataset.json has {len(names)} channels ({', '.join(map(str, names.values()))}), but the plans "
            f"{plans['plans_name']} were made for {len(schemes)}; {PLAN_ANEW}."
        )
    properties = plans.get("foreground_intensity_properties_per_channel")
    for channel, scheme in enumerate(schemes):
        if scheme == "CTNormalization" and not _has_statistics(properties, channel):
            raise InputError(
                f"The plans {plans['plans_name']} have no intensity statistics of channel {channel}; {PLAN_ANEW}."
            )
    return layout_from_dataset_json(dict(dataset_json))


def _has_statistics(properties: Any, channel: int) -> bool:
    own = properties.get(str(channel)) if isinstance(properties, Mapping) else None
    return isinstance(own, Mapping) and all(
        is_number(own.get(name)) for name in ("mean", "std", "percentile_00_5", "percentile_99_5")
    )


def check_branches(plans_name: str, arguments: Mapping[str, Any], layout: BranchLayout) -> None:
    """Check that the branches of the plans are those of the data set, in its order."""
    planned = dict(zip(arguments["branch_names"], map(tuple, arguments["branches"]), strict=False))
    found = dict(zip(layout.names, layout.channels, strict=True))
    if list(planned.items()) != list(found.items()):
        raise InputError(
            f"The branches of dataset.json are {_named(found)}, but the plans {plans_name} were made for "
            f"{_named(planned)}; restore dataset.json, or {PLAN_ANEW}."
        )


def check_modalities(plans_name: str, arguments: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> None:
    """Check that the modalities of the plans are the channels of the data set, in its order."""
    index = channel_indices(dict(dataset_json))
    found, planned = sorted(index, key=index.get), list(arguments["modality_names"])
    if planned != found:
        raise InputError(
            f"The channels of dataset.json are {', '.join(found)}, but the plans {plans_name} were made for "
            f"{', '.join(map(str, planned))}; restore dataset.json, or {PLAN_ANEW}."
        )


def _named(branches: Mapping[str, Sequence[int]]) -> str:
    return " and ".join(
        f"{name} (channel{'s' * (len(channels) != 1)} {', '.join(map(str, channels))})"
        for name, channels in branches.items()
    )


def check_blank_values(plans: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Check that the values of absent channels follow from the normalization."""
    stated = entry["architecture"]["arch_kwargs"]["blank_values"]
    expected = blank_values(entry["normalization_schemes"], plans["foreground_intensity_properties_per_channel"])
    if any(abs(a - b) > BLANK_VALUE_TOLERANCE for a, b in zip(stated, expected, strict=True)):
        raise InputError(
            f"The plans {plans['plans_name']} state the blank_values {list(stated)}, but their normalization makes "
            f"zeros {[round(value, 4) for value in expected]}; {PLAN_ANEW}."
        )


# ---- data and checkpoints ------------------------------------------------------------------------------------------


def check_pairing(branches_of_cases: Iterable[Sequence[str]], layout: BranchLayout) -> None:
    """Check that in a paired data set some case has several branches; looks no further than the first."""
    if layout.pairing == "unpaired" or len(layout.branches) == 1:
        return
    if not any(len(branches) > 1 for branches in branches_of_cases):
        raise InputError(
            "dataset.json calls the data set paired, but no training case has more than one of the branches "
            f'{", ".join(layout.names)}; if every case is a scan of one branch, say "unpaired" there and {PLAN_ANEW}.'
        )


def check_labels(properties: Mapping[str, Any], foreground: Iterable[Any]) -> None:
    """Check that a preprocessed case was preprocessed with the labels (or regions) of the data set.

    Parameters
    ----------
    properties : mapping
        Those that nnU-Net stores with the case; its ``class_locations`` have an entry for every label or region.
    foreground : iterable
        Foreground labels or regions of nnU-Net's label manager.
    """

    def key(label: Any) -> tuple[int, ...]:
        return tuple(int(i) for i in label) if isinstance(label, list | tuple) else (int(label),)

    # With an ignore label, there is also an entry for all that is annotated, which begins with -1.
    preprocessed = {key(label) for label in properties.get("class_locations", {})} - {()}
    preprocessed = {label for label in preprocessed if label[0] >= 0}
    if preprocessed and preprocessed != {key(label) for label in foreground}:
        raise InputError(
            f"The labels of dataset.json are not the {len(preprocessed)} with which the data were preprocessed; "
            f"restore dataset.json, or {PLAN_ANEW}."
        )


def check_spacing(
    shape: Sequence[int], properties: Mapping[str, Any], transpose: Sequence[int], spacing: Sequence[float]
) -> None:
    """Check that a preprocessed case was resampled to the spacing of the plans, as nnU-Net's own preprocessor does it.

    Parameters
    ----------
    shape : sequence of int
        Voxels of the preprocessed case along each axis.
    properties : mapping
        Those that nnU-Net stores with the case.
    transpose : sequence of int
        ``transpose_forward`` of the plans.
    spacing : sequence of float
        Of the configuration; of the plane only, if it is one of 2D.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    original = [properties["spacing"][axis] for axis in transpose]
    target = [*original[: len(original) - len(spacing)], *spacing]
    expected = compute_new_shape(properties["shape_after_cropping_and_before_resampling"], original, target)
    if list(expected) != list(shape):
        raise InputError(
            f"The plans want a spacing of {list(spacing)} mm, to which the preprocessed data were not resampled; "
            f"restore the plans, or {PLAN_ANEW}."
        )


def read_checkpoint(file: str, device: Any) -> dict[str, Any]:
    """Return nnU-Net's checkpoint, with all that it has to hold."""
    import torch

    try:
        checkpoint = torch.load(file, map_location=device, weights_only=False)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; train first, or leave out --val_best.") from None
    except Exception as error:  # noqa: BLE001 - whatever unpickling half a file comes to
        raise InputError(
            f"{file} cannot be read ({type(error).__name__}): it is truncated or no checkpoint; "
            "remove it, and --c goes on from another checkpoint, if there is one."
        ) from None
    missing = [key for key in CHECKPOINT_KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise InputError(f"{file} is no checkpoint of nnU-Net (it has no {missing[0]}); train anew without --c.")
    return checkpoint


def check_checkpoint(
    file: str,
    checkpoint: Mapping[str, Any],
    trainer_name: str,
    own_entry: str,
    dataset_json: Mapping[str, Any],
    weights: Mapping[str, Any],
) -> None:
    """Check that a checkpoint is one of this training.

    Parameters
    ----------
    file : str
        For the sentence.
    checkpoint : mapping
        See `read_checkpoint`.
    trainer_name : str
        Name of the trainer's class.
    own_entry : str
        Key of what our trainers add.
    dataset_json : mapping
        The data set's description.
    weights : mapping
        ``state_dict`` of the network that the plans build.
    """
    other = checkpoint["trainer_name"]
    if other != trainer_name:
        raise InputError(
            f"{file} is a checkpoint of {other}, not of {trainer_name}; go on with -tr {other}, or train anew without "
            "--c."
        )
    own, optimizer = checkpoint.get(own_entry), checkpoint["optimizer_state"]
    if not isinstance(own, Mapping) or not own.keys() >= OWN_KEYS:
        raise InputError(f"{file} has no agents, so that {trainer_name} did not write it; train anew without --c.")
    if not isinstance(optimizer, Mapping) or "param_groups" not in optimizer:
        raise InputError(f"{file} has no state of an optimizer; train anew without --c.")
    before = checkpoint["init_args"].get("dataset_json", dataset_json)
    if layout_from_dataset_json(before) != layout_from_dataset_json(dict(dataset_json)):
        raise InputError(
            f"{file} was trained with other branches, or another pairing, than dataset.json has now; restore "
            "dataset.json, or train anew without --c."
        )
    if before.get("labels") != dataset_json.get("labels"):
        raise InputError(
            f"{file} was trained with other labels than dataset.json has now; restore dataset.json, or train anew "
            "without --c."
        )
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if shapes != {name: tuple(value.shape) for name, value in checkpoint["network_weights"].items()}:
        raise InputError(
            f"{file} was trained with other plans: its network differs from the one that the plans build now; restore "
            "the plans, or train anew without --c."
        )
