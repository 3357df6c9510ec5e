"""Whether the ``arch_kwargs`` of a plan build a network of ours: names, types, ranges, and how they fit each other."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, get_args

from rl_nnunet.errors import InputError
from rl_nnunet.networks.backbone import Backbone
from rl_nnunet.networks.iterated_net import AGENTS, LEARNING, SELECTION
from rl_nnunet.networks.xalign import XAlignConfig
from rl_nnunet.plans.checks import PLAN_ANEW, is_number, suggestion
from rl_nnunet.policies.pose import PolicyKind
from rl_nnunet.policies.rotations import turning

FROM_NNUNET = ("input_channels", "num_classes", "deep_supervision")
"""Arguments of every network that nnU-Net gives itself."""
FOR_TRAINERS = ("agents", "iterations")
"""Arguments with a default that decide what a trainer logs, so that plans must state them."""


def _is_whole(value: Any, lowest: int = 0) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= lowest


def _is_list(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(is_item, value))


def _is_probability(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _are_names(value: Any) -> bool:
    return _is_list(value, lambda name: isinstance(name, str)) and len(set(value)) == len(value) > 0


def _are_branches(value: Any) -> bool:
    return _is_list(value, lambda channels: _is_list(channels, _is_whole) and len(channels) > 0)


def _are_sizes(value: Any) -> bool:
    return _is_list(value, lambda size: _is_list(size, lambda edge: _is_whole(edge, 1)))


def _are_stages(value: Any) -> bool:
    return _is_list(value, _is_whole) and list(value) == sorted(set(value))


def _are_axes(value: Any) -> bool:
    return _is_list(value, lambda axes: _is_list(axes, _is_whole) and len(set(axes)) == len(axes) != 1)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "branch_dropout": (_is_probability, "a probability from 0 to 1"),
    "shared_decoder": (lambda value: isinstance(value, bool), "true or false"),
    "branch_normalization": (lambda value: isinstance(value, bool), "true or false"),
    "branch_names": (_are_names, "a list of different names"),
    "modality_names": (_are_names, "a list of different names"),
    "class_names": (_are_names, "a list of different names"),
    "branches": (_are_branches, "a list of lists of channels"),
    "blank_values": (lambda value: _is_list(value, is_number), "a list of numbers"),
    "aligned_stages": (_are_stages, "a list of different stages in order"),
    "carried_stages": (_are_stages, "a list of different stages in order"),
    "windows": (_are_sizes, "a list of windows in voxels"),
    "turnable_axes": (
        lambda value: value is None or _are_axes(value),
        "a list of lists of axes, each of none or at least two different ones",
    ),
    "iterations": (_is_whole, "a whole number"),
    "regions": (lambda value: isinstance(value, bool), "true or false"),
    "exploration_share": (_is_probability, "a probability from 0 to 1"),
    "trained_iterations": (lambda value: value in ("ends", "all"), '"ends" or "all"'),
    "prediction_iterations": (lambda value: value is None or _is_whole(value), "a whole number or null"),
    "fused_output_weight": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "hidden_size": (lambda value: _is_whole(value, 1), "a whole number above 0"),
    "n_stages": (lambda value: _is_whole(value, 1), "a whole number above 0"),
    "strides": (_are_sizes, "a list of strides"),
    "agents": (
        lambda value: _is_list(value, lambda name: name in AGENTS) or value == [SELECTION],
        f'of "intra" and "inter", or ["{SELECTION}"]',
    ),
    "learning": (lambda value: value in LEARNING, f"one of {', '.join(LEARNING)}"),
    "modality_encoder": (lambda value: isinstance(value, Mapping), "an object"),
    "xalign": (lambda value: isinstance(value, Mapping), "an object"),
}
"""What arguments must be: those of ours, and those of nnU-Net's that ours have to fit."""


def check_arguments(
    plans_name: str, network_class_name: str, arguments: Mapping[str, Any], input_channels: int
) -> None:
    """Check the ``arch_kwargs`` of a network of ours: names, types, ranges, and that they fit each other.

    Parameters
    ----------
    plans_name : str
        For the sentence.
    network_class_name : str
        Dotted name of the network.
    arguments : mapping
        Its ``arch_kwargs``.
    input_channels : int
        Channels of the data set.
    """
    where = f"arch_kwargs of the plans {plans_name}"
    network = pydoc.locate(network_class_name)
    parameters = inspect.signature(network).parameters if inspect.isclass(network) else {}
    if "blank_values" not in parameters:
        raise InputError(f"The plans {plans_name} build {network_class_name}, which knows no branches; {PLAN_ANEW}.")
    own = {name: p.default for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD and name not in FROM_NNUNET}
    defaults = {**own, **{name: p.default for name, p in inspect.signature(Backbone).parameters.items()}}
    _check_names(where, arguments, list(defaults))
    needed = [n for n in defaults if defaults[n] is inspect.Parameter.empty or n in FOR_TRAINERS]
    for name in needed:
        if name not in arguments:
            raise InputError(f"{where}: {name} is missing; {PLAN_ANEW}.")
    for name, (is_right, kind) in KINDS.items():
        if name in arguments and not is_right(arguments[name]):
            raise InputError(f"{where}: {name} must be {kind}, not {arguments[name]!r}; correct it there.")
    if len(arguments["blank_values"]) != input_channels:
        raise InputError(
            f"{where}: blank_values has {len(arguments['blank_values'])} values for {input_channels} channels; "
            f"{PLAN_ANEW}."
        )
    if "branches" in arguments:
        _check_branch_arguments(where, arguments, input_channels)
    if "modality_names" in arguments and len(arguments["modality_names"]) != input_channels:
        raise InputError(f"{where}: modality_names must name all {input_channels} channels; {PLAN_ANEW}.")


def _check_names(where: str, arguments: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in arguments:
        if name not in known:
            raise InputError(f"{where}: there is no argument {name}.{suggestion(name, known)}")


def _check_branch_arguments(where: str, arguments: Mapping[str, Any], input_channels: int) -> None:
    if len(arguments["branches"]) != len(arguments["branch_names"]) or sorted(
        channel for channels in arguments["branches"] for channel in channels
    ) != list(range(input_channels)):
        raise InputError(
            f"{where}: branches must use each of the {input_channels} channels once, and have as many branch_names; "
            f"{PLAN_ANEW}."
        )
    if len(arguments["windows"]) != len(arguments["aligned_stages"]):
        raise InputError(f"{where}: aligned_stages need as many windows; {PLAN_ANEW}.")
    for name in ("aligned_stages", "carried_stages"):
        if any(stage >= arguments["n_stages"] for stage in arguments.get(name, ())):
            raise InputError(f"{where}: {name} must be below n_stages, {arguments['n_stages']}; correct it there.")
    if max(arguments.get("carried_stages", ()), default=-1) >= min(arguments["aligned_stages"], default=0):
        raise InputError(f"{where}: carried_stages must lie before the first aligned stage; correct it there.")
    dimension = len(arguments["strides"][0])
    if any(len(window) != dimension for window in arguments["windows"]):
        raise InputError(f"{where}: windows need {dimension} edges each; correct it there.")
    turnable = arguments.get("turnable_axes")
    turnable = [range(dimension)] * len(arguments["windows"]) if turnable is None else turnable
    if len(turnable) != len(arguments["aligned_stages"]):
        raise InputError(f"{where}: aligned_stages need as many turnable_axes; {PLAN_ANEW}.")
    if any(axis >= dimension for axes in turnable for axis in axes):
        raise InputError(
            f"{where}: turnable_axes must be below {dimension}, as there are {dimension}; correct it there."
        )
    _check_xalign(where, arguments.get("xalign", {}), turnable, dimension)


def _check_xalign(where: str, options: Mapping[str, Any], turnable: Sequence[Sequence[int]], dimension: int) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(XAlignConfig)}
    _check_names(f"{where}, xalign", options, list(defaults))
    for name, value in options.items():
        is_right = {bool: lambda v: isinstance(v, bool), int: _is_whole, float: is_number}.get(
            type(defaults[name]), lambda v: isinstance(v, str)
        )
        if not is_right(value) or (name == "policy" and value not in get_args(PolicyKind)):
            raise InputError(f"{where}: xalign.{name} cannot be {value!r}; its default is {defaults[name]!r}.")
    try:
        XAlignConfig(**options)
    except ValueError as error:
        raise InputError(f"{where}: xalign.{error}; correct it there.") from None
    rotations = min((len(turning(axes, dimension)) for axes in turnable), default=None)
    if rotations is not None and options.get("selected_rotations", 1) > rotations:
        raise InputError(
            f"{where}: xalign.selected_rotations cannot be more than the {rotations} that turnable_axes leave."
        )
