"""``--fast_resampling``: any planner, with nnU-Net's own resampling by torch in the plans.

The functions and their arguments are those of nnU-Net's ``nnUNetPlannerResEncL_torchres_sepz``: linear, and slice by
slice where voxels are anisotropic, as nnU-Net's default does it.
"""

from __future__ import annotations

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.resampling.resample_with_torch import (
    nnUNetPlannerResEncL_torchres_sepz,
)

from rl_nnunet.errors import InputError
from rl_nnunet.planners.classification_planner import ClassificationPlanner
from rl_nnunet.planners.planning_arguments import FAST_SUFFIX


class FastExport:
    """A mixin for planners: predictions are brought to the grid of the scan by torch; all else is the planner's."""

    determine_segmentation_softmax_export_fn = (
        nnUNetPlannerResEncL_torchres_sepz.determine_segmentation_softmax_export_fn
    )


class FastResampling(FastExport):
    """A mixin for planners: torch resamples images, labels and predictions.

    Linear instead of cubic interpolation makes other images: plans and preprocessed data have names of their own.
    """

    determine_resampling = nnUNetPlannerResEncL_torchres_sepz.determine_resampling

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if kwargs.get("plans_name") is None:
            self.plans_identifier += FAST_SUFFIX

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Keep the data apart from others, also where they have the name of plans with another resampling."""
        return f"{self.plans_identifier.removesuffix(FAST_SUFFIX)}{FAST_SUFFIX}_{configuration_name}"


def with_fast_resampling(planner: type[ExperimentPlanner], what: str) -> type[ExperimentPlanner]:
    """Return a planner that plans as another one, but for the resampling.

    Parameters
    ----------
    planner : type
        The other one.
    what : str
        ``"all"`` or ``"export"``.

    Raises
    ------
    InputError
        If that makes no sense for this planner.
    """
    if (
        planner.determine_resampling is not ExperimentPlanner.determine_resampling
        or planner.determine_segmentation_softmax_export_fn
        is not ExperimentPlanner.determine_segmentation_softmax_export_fn
    ):
        raise InputError(f"{planner.__name__} chooses a resampling of its own; leave out --fast_resampling.")
    if what == "export" and issubclass(planner, ClassificationPlanner):
        raise InputError(
            f"{planner.__name__} plans a classifier, which exports no segmentation; leave out the word export, or "
            "--fast_resampling."
        )
    mixin = FastExport if what == "export" else FastResampling
    # Plans note the name of what made them.
    return type(planner.__name__, (mixin, planner), {"__module__": planner.__module__, "__doc__": planner.__doc__})
