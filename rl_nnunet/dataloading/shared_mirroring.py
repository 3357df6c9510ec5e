"""Mirror all branches of a sample alike.

Pose agents turn maps, and rotations do not mirror: where one branch is mirrored and the other is not, no action brings
them together. Every branch has an augmentation of its own with nnU-Net's mirroring in it; here the branch that comes
first draws, and the others repeat what it drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform

from rl_nnunet.dataloading.pipelines import replace_within


class SharedMirror(MirrorTransform):
    """nnU-Net's mirroring, whose n-th draw of a batch is that of all branches.

    Parameters
    ----------
    allowed_axes : sequence of int
        See ``MirrorTransform``.
    draws : list of dict
        What was drawn for the samples of the batch; the branches share it.
    """

    def __init__(self, allowed_axes: Sequence[int], draws: list[dict[str, Any]]) -> None:
        super().__init__(allowed_axes)
        self.draws = draws
        self.used = 0

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Return what was drawn for this sample; draw it if no branch has done so."""
        if self.used == len(self.draws):
            self.draws.append(super().get_parameters(**data_dict))
        self.used += 1
        return self.draws[self.used - 1]


class SharedMirroring:
    """The mirroring of all branches.

    Parameters
    ----------
    transforms : sequence of BasicTransform or None
        The whole augmentation of each branch. Every ``MirrorTransform`` within is replaced, in place; each must be
        asked once for every sample, as nnU-Net's is.
    """

    def __init__(self, transforms: Sequence[BasicTransform | None]) -> None:
        self._draws: list[dict[str, Any]] = []
        self._mirrors: list[SharedMirror] = []
        for transform in transforms:
            replace_within(transform, MirrorTransform, self._shared)

    def start_batch(self) -> None:
        """Forget the draws of the batch before."""
        self._draws.clear()
        for mirror in self._mirrors:
            mirror.used = 0

    def _shared(self, transform: MirrorTransform) -> SharedMirror:
        self._mirrors.append(SharedMirror(transform.allowed_axes, self._draws))
        return self._mirrors[-1]
