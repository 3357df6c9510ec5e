"""What our trainers add to nnU-Net's checkpoint, and whether a checkpoint is one of this training.

nnU-Net trusts its files: a checkpoint of other plans or another data set ends in a traceback at best, and one of a
stranger can run whatever the stranger likes. Every function here raises `InputError`, whose sentence says what does not
fit what, and what to do.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.errors import InputError

CHECKPOINT_KEY = "rl_nnunet"
"""Under which our trainers add ``agents``, ``random_state`` and, as ``extra``, what else a restart needs."""
OWN_KEYS = {"agents", "random_state", "extra"}
OTHER_RANKS = "other_ranks"
"""Of a training on several GPUs: ``agents`` and ``random_state`` of ranks 1, 2, and so on."""
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


def read_checkpoint(file: str, device: Any) -> dict[str, Any]:
    """Return nnU-Net's checkpoint, with all that it has to hold, without running any code that it brings along."""
    try:
        checkpoint = load_without_code(file, device)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; train first, or leave out --val_best.") from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever unpickling half a file comes to
        raise InputError(
            f"{file} cannot be read ({type(error).__name__}): it is truncated or no checkpoint; "
            "remove it, and --c goes on from another checkpoint, if there is one."
        ) from None
    missing = [key for key in CHECKPOINT_KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise InputError(f"{file} is no checkpoint of nnU-Net (it has no {missing[0]}); train anew without --c.")
    return checkpoint


def load_without_code(file: str | Path, device: Any) -> Any:
    """Return what a file of ``torch.save`` holds: tensors, numpy's numbers and arrays, plain containers, nothing else.

    Parameters
    ----------
    file : str or Path
        The file.
    device : Any
        torch's, for tensors.

    Raises
    ------
    InputError
        If the file holds objects of other classes, making which might run anything.
    Exception
        Whatever torch raises of what is no such file.
    """
    try:
        with torch.serialization.safe_globals(_numpy_builders()):
            return torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        unknown = sorted(set(names) - {f"{each.__module__}.{each.__qualname__}" for each in _numpy_builders()})
        if not unknown:
            raise
        raise InputError(
            f"{file} holds more than numbers and text ({unknown[0]}), which could run any code; it is of no trainer of "
            "nnU-Net or of ours."
        ) from None


def _numpy_builders() -> list[Callable[..., Any]]:
    """Return what pickles of numpy's numbers and arrays call: the log and the random state are made of them."""
    array, number = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    return [array, number, np.ndarray, np.dtype, *kinds]


def check_checkpoint(
    file: str,
    checkpoint: Mapping[str, Any],
    trainer_name: str,
    agents: Iterable[str],
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
    agents : iterable of str
        Names of the trainer's agents.
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
    own, optimizer = checkpoint.get(CHECKPOINT_KEY), checkpoint["optimizer_state"]
    if not isinstance(own, Mapping) or not own.keys() >= OWN_KEYS:
        raise InputError(f"{file} has no agents, so that {trainer_name} did not write it; train anew without --c.")
    if not isinstance(own["agents"], Mapping) or set(own["agents"]) != set(agents):
        raise InputError(
            f"{file} has the agents {', '.join(map(str, own['agents'])) or 'none'}, but {trainer_name} has "
            f"{', '.join(agents) or 'none'}; train anew without --c."
        )
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


def state_of_rank(own: Mapping[str, Any], rank: int, world_size: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the states of a rank's agents, by name, and its random state.

    In a checkpoint of another number of ranks, agents are those of rank 0, which have learnt what all of them have; a
    random state belongs to the data of its rank, and the others have none.

    Parameters
    ----------
    own : mapping
        What our trainers have added to a checkpoint.
    rank, world_size : int
        Number of this process, and of all.
    """
    ranks = [own, *own.get(OTHER_RANKS, [])]
    if len(ranks) == world_size:
        return ranks[rank]["agents"], ranks[rank]["random_state"]
    return own["agents"], own["random_state"] if rank == 0 else None
