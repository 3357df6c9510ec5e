"""Whether plans and data set fit each other: compared once, before a training or prediction begins.

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

from rl_nnunet.branches import BranchLayout, blank_values, layout_from_dataset_json
from rl_nnunet.errors import InputError

PLAN_ANEW = "plan and preprocess anew (rl_nnunet_plan_and_preprocess)"
BLANK_VALUE_TOLERANCE = 1e-4


def is_number(value: Any) -> bool:
    """Return whether a value out of a JSON file is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that is closest, as a question to append to a sentence; empty if none is close."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""


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


def check_blank_values(plans: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Check that the values of absent channels follow from the normalization."""
    stated = entry["architecture"]["arch_kwargs"]["blank_values"]
    expected = blank_values(entry["normalization_schemes"], plans["foreground_intensity_properties_per_channel"])
    if any(abs(a - b) > BLANK_VALUE_TOLERANCE for a, b in zip(stated, expected, strict=True)):
        raise InputError(
            f"The plans {plans['plans_name']} state the blank_values {list(stated)}, but their normalization makes "
            f"zeros {[round(value, 4) for value in expected]}; {PLAN_ANEW}."
        )
