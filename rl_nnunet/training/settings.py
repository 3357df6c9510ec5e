"""What every family of trainers can be told; each has a subclass with settings of its own beside its trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

SCHEDULE = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "save_every")


@dataclass(frozen=True)
class TrainerSettings:
    """Settings that are not in the plans. A trainer with others is a subclass with another instance.

    Parameters
    ----------
    architecture : mapping of str to object
        Arguments of the network that an ablation sets in the plans of the model folder, which prediction reads; see
        `rl_nnunet.plans.adapt.adapt`.
    schedule : mapping of str to int
        What differs from nnU-Net's schedule, by the names of nnU-Net's attributes: ``num_epochs``,
        ``num_iterations_per_epoch``, ``num_val_iterations_per_epoch``, ``save_every``.

    Raises
    ------
    ValueError
        If the schedule has another name.
    """

    architecture: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names: nnU-Net's trainer takes any attribute without a word."""
        unknown = sorted(set(self.schedule) - set(SCHEDULE))
        if unknown:
            raise ValueError(f"a schedule has {', '.join(SCHEDULE)}, but no {unknown[0]}")


class Scheduled:
    """Trains by the schedule of its settings; goes before an nnU-Net trainer in the list of bases.

    Attributes
    ----------
    settings : TrainerSettings
        Of the family of trainers.
    """

    settings = TrainerSettings()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        vars(self).update(self.settings.schedule)
