"""``modality_dropout`` and ``modality_degradation``: how often training withholds, or degrades, modalities.

Both are entries of a configuration and stand beside ``batch_size``, not among the arguments of a network, so that
nnU-Net's own network can be trained with them, too. Plans that do not state them, such as those of nnU-Net's planners,
mean the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_nnunet.errors import InputError
from rl_nnunet.plans.checks import is_number

MODALITY_DROPOUT = "modality_dropout"
DEFAULT_MODALITY_DROPOUT = 0.5
"""Share of the samples that are reduced to a uniformly drawn subset of their modalities."""
MODALITY_DEGRADATION = "modality_degradation"
"""Share of the samples of which one modality is degraded (see `rl_nnunet.dataloading.degradation`)."""


def planned_modality_dropout(configuration: Mapping[str, Any]) -> float:
    """Return the share of which modalities are withheld that a configuration of nnU-Net's plans states, or the default.

    Raises
    ------
    InputError
        If it is no probability.
    """
    return _planned_share(configuration, MODALITY_DROPOUT, DEFAULT_MODALITY_DROPOUT)


def planned_modality_degradation(configuration: Mapping[str, Any], usual: float) -> float:
    """Return the share to degrade that a configuration states, or that of the trainer; raises likewise."""
    return _planned_share(configuration, MODALITY_DEGRADATION, usual)


def _planned_share(configuration: Mapping[str, Any], name: str, default: float) -> float:
    share = configuration.get(name, default)
    if not is_number(share) or not 0 <= share <= 1:
        raise InputError(f"{name} in the plans must be a probability from 0 to 1, not {share!r}.")
    return share
