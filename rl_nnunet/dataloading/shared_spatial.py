"""Turn and stretch two scans of one place alike.

Two crops of one patient, centered on one place, show the same anatomy in the pose in which the scans lie to each other.
Were each turned and stretched by a draw of its own, their relative pose would be that of the draws: neither would
voxels of the one belong to voxels of the other, nor could a pose agent learn how scans of a patient lie. So the branch
that follows repeats what the branch that leads has drawn. What is repeated is stated in axes of the array, as all of
nnU-Net's augmentation is: it moves both alike as far as the scans are stored in one axis order, to which the converters
bring them by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from rl_nnunet.dataloading.pipelines import replace_within


class SharedSpatial(BasicTransform):
    """nnU-Net's rotation, scaling and deformation, which can repeat those of another branch.

    Parameters
    ----------
    transform : SpatialTransform
        nnU-Net's; who adjusts its probabilities still does.

    Attributes
    ----------
    drawn : list of dict
        What was drawn for, or repeated in, the samples of the batch.
    """

    def __init__(self, transform: SpatialTransform) -> None:
        super().__init__()
        self.transform = transform
        self.drawn: list[dict[str, Any]] = []
        self._leader: SharedSpatial | None = None
        self._repeats: Sequence[bool] = ()

    def start_batch(self, leader: SharedSpatial | None = None, repeats: Sequence[bool] = ()) -> None:
        """Begin a batch: which of its samples repeat the draws of a leader, whose batch is complete."""
        self.drawn = []
        self._leader, self._repeats = leader, repeats

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Transform the next sample of the batch."""
        sample = len(self.drawn)
        if self._leader is not None and self._repeats[sample]:
            parameters = self._leader.drawn[sample]
        else:
            parameters = self.transform.get_parameters(**data_dict)
        self.drawn.append(parameters)
        return self.transform.apply(data_dict, **parameters)


def share_spatial(pipeline: BasicTransform | None) -> list[SharedSpatial]:
    """Make every spatial transform within an augmentation one that can repeat another's draws; return them."""
    shared: list[SharedSpatial] = []

    def make(transform: SpatialTransform) -> SharedSpatial:
        shared.append(SharedSpatial(transform))
        return shared[-1]

    replace_within(pipeline, SpatialTransform, make)
    return shared
