"""``modality_dropout``, the entry of a configuration that says how often training withholds modalities.

It stands beside ``batch_size``, not among the arguments of a network, so that nnU-Net's own network can be trained with
it, too. Plans that do not state it, such as those of nnU-Net's planners, mean the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_nnunet.errors import InputError
from rl_nnunet.plans.checks import is_number

MODALITY_DROPOUT = "modality_dropout"
DEFAULT_MODALITY_DROPOUT = 0.5
"""Share of the samples that are reduced to a uniformly drawn subset of their modalities."""


def planned_modality_dropout(configuration: Mapping[str, Any]) -> float:
    """Return the share that a configuration of nnU-Net's plans states, or the default.

    Raises
    ------
    InputError
        If it is no probability.
    """
    share = configuration.get(MODALITY_DROPOUT, DEFAULT_MODALITY_DROPOUT)
    if not is_number(share) or not 0 <= share <= 1:
        raise InputError(f"{MODALITY_DROPOUT} in the plans must be a probability from 0 to 1, not {share!r}.")
    return share
