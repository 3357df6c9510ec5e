"""The plans of classifiers: what is cropped, the cube that it becomes, and the network on it.

Beside ``batch_size``, a configuration of such plans has an entry ``classification``, the fields of `Crop`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from dynamic_network_architectures.building_blocks.helper import convert_dim_to_conv_op

from rl_nnunet.branches import DATASET_JSON_KEY
from rl_nnunet.errors import InputError
from rl_nnunet.networks.sample_norm import SampleNorm
from rl_nnunet.plans.adapt import NetworkPlan, PlannedData
from rl_nnunet.plans.checks import PLAN_ANEW, is_number

CLASSIFICATION = "classification"
CROP_KEY = "crop"
SMALLEST_MAP = 2
"""Edge of the last feature map in voxels: a cube of 64 voxels has six stages, the paper's six blocks."""
WIDEST = 8
"""The last maps have at most this many times the features of the first, as in the paper's section 2.2."""
BLOCKS_PER_STAGE = 1

CropKind = Literal["structure", "image"]


@dataclasses.dataclass(frozen=True)
class Crop:
    """What of a case a classifier sees.

    Parameters
    ----------
    crop : {"structure", "image"}
        The box around all that is labeled, or the whole image.
    margin : float
        Around the box, in mm.
    """

    crop: CropKind = "structure"
    margin: float = 5.0

    def margin_voxels(self, spacing: Sequence[float]) -> list[int]:
        """Return the margin along each axis in voxels of a spacing (mm)."""
        return [round(self.margin / edge) for edge in spacing]


def default_crop(dataset_json: Mapping[str, Any]) -> Crop:
    """Return the crop that a data set asks for: under our key, ``"crop": "image"``, or the structure's.

    Raises
    ------
    InputError
        If it asks for something else.
    """
    entry = dataset_json.get(DATASET_JSON_KEY)
    kind = entry.get(CROP_KEY, Crop.crop) if isinstance(entry, Mapping) else Crop.crop
    return _checked({"crop": kind}, f'dataset.json, "{DATASET_JSON_KEY}"')


def planned_crop(configuration: Mapping[str, Any]) -> Crop:
    """Return the crop of a configuration of nnU-Net's plans.

    Raises
    ------
    InputError
        If there is none, or it cannot be used.
    """
    entry = configuration.get(CLASSIFICATION)
    if not isinstance(entry, Mapping):
        raise InputError(f"The plans have no entry {CLASSIFICATION}; plan with ClassificationPlanner.")
    return _checked(entry, f"{CLASSIFICATION} in the plans")


def _checked(entry: Mapping[str, Any], where: str) -> Crop:
    known = [field.name for field in dataclasses.fields(Crop)]
    unknown = next((name for name in entry if name not in known), None)
    if unknown is not None:
        raise InputError(f"{where}: there is no {unknown}, only {', '.join(known)}; correct it there.")
    crop = Crop(**entry)
    if crop.crop not in get_args(CropKind):
        raise InputError(f"{where}: crop must be {' or '.join(get_args(CropKind))}, not {crop.crop!r}; correct it.")
    if not is_number(crop.margin) or crop.margin < 0:
        raise InputError(f"{where}: margin must be a number of mm, 0 or more, not {crop.margin!r}; correct it there.")
    return crop


def classifier_arguments(dimension: int, edge: int, base_features: int) -> dict[str, Any]:
    """Return the topology of an encoder of a cube as fields of `Backbone`; JSON-serializable.

    Every stage but the first halves the maps, down to `SMALLEST_MAP` voxels.

    Parameters
    ----------
    dimension : int
        2 or 3.
    edge : int
        Of the cube, in voxels; a power of 2.
    base_features : int
        Features of the first stage.
    """
    stages = (edge // SMALLEST_MAP).bit_length()
    convolution = convert_dim_to_conv_op(dimension)
    return {
        "n_stages": stages,
        "features_per_stage": [base_features * min(WIDEST, 2**stage) for stage in range(stages)],
        "conv_op": f"{convolution.__module__}.{convolution.__name__}",
        "kernel_sizes": [[3] * dimension] * stages,
        "strides": [[1] * dimension, *[[2] * dimension] * (stages - 1)],
        "n_blocks_per_stage": [BLOCKS_PER_STAGE] * stages,
        "conv_bias": True,
        "norm_op": f"{SampleNorm.__module__}.{SampleNorm.__name__}",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


class ClassificationNetPlan(NetworkPlan):
    """Plans of `rl_nnunet.networks.classification_net.ClassificationNet`."""

    network_class = "rl_nnunet.networks.classification_net.ClassificationNet"
    user = "classifiers need"
    planner = "ClassificationPlanner"
    adapted_classes = ()

    def check_data(self, data: PlannedData) -> None:
        """Refuse unpaired data: one class belongs to all channels of a case."""
        if not data.layout.is_paired:
            raise InputError(
                f"The data set is {data.layout.pairing}, but a classifier sees all channels of a case together; "
                "convert it as paired, or each branch by itself."
            )

    def derive(self, data: PlannedData) -> dict[str, Any]:
        """Return nothing: these plans are not derived from others."""
        return {}

    def describe(self, arguments: Mapping[str, Any], data: PlannedData) -> list[str]:
        """Return nothing: see `derive`."""
        return []

    def check_fit(self, arguments: Mapping[str, Any], data: PlannedData) -> None:
        """Check that the crop can be used, and that the network has its classes."""
        planned_crop(data.entry)
        if len(arguments["class_names"]) < 2:
            raise InputError(f"The plans {data.plans['plans_name']} have one class only; {PLAN_ANEW}.")
