"""``companions``, the entry of a configuration that says how several scans of a patient train together.

It stands beside ``batch_size``, and is for data whose pairing is ``unregistered``. Plans that do not state it, such as
those of nnU-Net's planners, mean the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from rl_nnunet.errors import InputError
from rl_nnunet.plans.checks import is_number, suggestion

COMPANIONS = "companions"
PlacementChoice = Literal["auto", "physical", "relative"]


@dataclass(frozen=True)
class CompanionConfig:
    """How several scans of a patient train together.

    Parameters
    ----------
    same_patient : float
        Share of the samples whose branches show one patient, at one place, where the patient has several scans; in
        [0, 1]. The branches of the others come from different patients, and do not see each other; with a share of 0,
        they do, as in unpaired data.
    placement : {"auto", "physical", "relative"}
        How the place of one scan is found in another one: by the coordinates of their headers, by the part of their
        extent, or, "auto", by the coordinates where the boxes of the two overlap. Nothing in a header tells whether it
        is right: where it is not, as with bSSFP of MS-CMRSeg, write "relative".

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    same_patient: float = 0.75
    placement: PlacementChoice = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        if not is_number(self.same_patient) or not 0 <= self.same_patient <= 1:
            raise InputError(
                f"{COMPANIONS} in the plans: same_patient must be a probability from 0 to 1, not {self.same_patient!r}."
            )
        if self.placement not in get_args(PlacementChoice):
            raise InputError(
                f"{COMPANIONS} in the plans: placement must be one of {', '.join(get_args(PlacementChoice))}, not "
                f"{self.placement!r}."
            )


def planned_companions(configuration: Mapping[str, Any]) -> CompanionConfig:
    """Return what a configuration of nnU-Net's plans states, or the defaults.

    Raises
    ------
    InputError
        If it is none.
    """
    entry = configuration.get(COMPANIONS, {})
    if not isinstance(entry, Mapping):
        raise InputError(f'{COMPANIONS} in the plans must look like {{"same_patient": 0.75}}, not {entry!r}.')
    known = [field.name for field in fields(CompanionConfig)]
    unknown = next((name for name in entry if name not in known), None)
    if unknown is not None:
        raise InputError(f"{COMPANIONS} in the plans: there is no {unknown}.{suggestion(unknown, known)}")
    return CompanionConfig(**entry)
