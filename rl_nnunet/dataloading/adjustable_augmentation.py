"""nnU-Net's augmentation with knobs: how often and how strongly each of its transforms is applied, changed as it runs.

The pipeline is the one that nnU-Net builds. Before each sample, the present factors are read from shared memory, where
the process that trains writes them, and the transforms' own attributes are set: their probabilities, and the ranges
that they draw from. With factors of 1, nothing differs from nnU-Net's. What no knob belongs to is left as it is:
mirroring, which test-time mirroring relies on, the transforms of cascades, and whatever nnU-Net may add.

A range is stretched around the value at which its transform does nothing. Quantities that are added (angles, the
variance of noise, the width of a blur) are multiplied by the factor; factors (of size, brightness, contrast, gamma, and
resolution) are raised to the power of it, so that none of them gets to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch import Tensor

from rl_nnunet.policies.augmentation import scale_odds


def multiplied(value: float, factor: float) -> float:
    """Return a value of a quantity that does nothing at 0, stretched."""
    return value * factor


def raised(value: float, factor: float) -> float:
    """Return a value of a quantity that does nothing at 1, stretched."""
    return value**factor


class Knob(NamedTuple):
    """Where the probability and the strength of a transform of nnU-Net's are.

    Attributes
    ----------
    transform : type
        Class of the transform.
    strength : str
        Its attribute with the range that it draws from.
    stretched : callable
        `multiplied` or `raised`.
    probability : str or None
        Its attribute with its probability; None where the ``RandomTransform`` around it has it.
    attributes : mapping of str to object
        What other attributes of it must be.
    """

    transform: type[BasicTransform]
    strength: str
    stretched: Callable[[float, float], float]
    probability: str | None = None
    attributes: Mapping[str, Any] = {}

    def belongs_to(self, transform: Any) -> bool:
        """Whether a transform is the one."""
        return isinstance(transform, self.transform) and all(
            getattr(transform, name) == value for name, value in self.attributes.items()
        )


KNOBS = {
    "rotation": Knob(SpatialTransform, "rotation", multiplied, "p_rotation"),
    "scaling": Knob(SpatialTransform, "scaling", raised, "p_scaling"),
    "noise": Knob(GaussianNoiseTransform, "noise_variance", multiplied),
    "blur": Knob(GaussianBlurTransform, "blur_sigma", multiplied),
    "brightness": Knob(MultiplicativeBrightnessTransform, "multiplier_range", raised),
    "contrast": Knob(ContrastTransform, "contrast_range", raised),
    "low_resolution": Knob(SimulateLowResolutionTransform, "scale", raised),
    "inverted_gamma": Knob(GammaTransform, "gamma", raised, attributes={"p_invert_image": 1}),
    "gamma": Knob(GammaTransform, "gamma", raised, attributes={"p_invert_image": 0}),
}
"""By name, those of nnU-Net's augmentation."""


class Adjustment(NamedTuple):
    """A knob in a pipeline, and nnU-Net's own values there."""

    knob: Knob
    transform: BasicTransform
    owner: BasicTransform
    attribute: str
    probability: float
    strength: Any

    def apply(self, odds_factor: float, strength_factor: float) -> None:
        """Set probability and range to nnU-Net's own, changed by factors."""
        setattr(self.owner, self.attribute, scale_odds(self.probability, odds_factor))
        setattr(self.transform, self.knob.strength, stretch(self.strength, self.knob.stretched, strength_factor))


def stretch(strength: Any, stretched: Callable[[float, float], float], factor: float) -> Any:
    """Return a range or a number of batchgeneratorsv2's with all limits stretched by a factor.

    Raises
    ------
    TypeError
        If it is of another kind.
    """
    if isinstance(strength, BGContrast):
        return BGContrast(stretch(strength.contrast_range, stretched, factor))
    if isinstance(strength, tuple | list):
        return tuple(stretched(limit, factor) for limit in strength)
    if isinstance(strength, int | float):
        return stretched(strength, factor)
    raise TypeError(f"a {type(strength).__name__} is no range that can be stretched; see tests/test_nnunet_hooks.py")


def find_adjustments(pipeline: BasicTransform) -> dict[str, list[Adjustment]]:
    """Return the knobs of a pipeline by name, in the order of `KNOBS`; a name that has none there is left out."""
    found: dict[str, list[Adjustment]] = {name: [] for name in KNOBS}
    for transform, outer in _walk(pipeline, None):
        for name, knob in KNOBS.items():
            if not knob.belongs_to(transform):
                continue
            owner, attribute = (transform, knob.probability) if knob.probability else (outer, "apply_probability")
            if knob.probability or isinstance(outer, RandomTransform):
                own = getattr(owner, attribute), getattr(transform, knob.strength)
                found[name].append(Adjustment(knob, transform, owner, attribute, *own))
    return {name: adjustments for name, adjustments in found.items() if adjustments}


def _walk(transform: Any, outer: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each transform within a pipeline with the one around it."""
    yield transform, outer
    inner = [*getattr(transform, "transforms", []), getattr(transform, "transform", None)]
    for each in inner:
        if each is not None:
            yield from _walk(each, transform)


def planned_probabilities(pipeline: BasicTransform) -> dict[str, float]:
    """Return nnU-Net's own probability of each transform with a knob, by name."""
    return {name: adjustments[0].probability for name, adjustments in find_adjustments(pipeline).items()}


class AdjustableAugmentation(BasicTransform):
    """Apply a pipeline with the probabilities and strengths of the moment.

    Parameters
    ----------
    transform : BasicTransform
        The whole augmentation, as nnU-Net builds it.
    names : sequence of str
        Whose factors these are, in their order; each has a knob in the pipeline.
    factors : Tensor
        (2, transforms), float64, in shared memory: factors of the odds and of the strengths.
    """

    def __init__(self, transform: BasicTransform, names: Sequence[str], factors: Tensor) -> None:
        super().__init__()
        self.transform = transform
        self.factors = factors
        found = find_adjustments(transform)
        self.adjustments = [found[name] for name in names]

    def __call__(self, **data_dict: Any) -> dict[str, Any]:
        """Augment a sample."""
        for adjustments, odds, strength in zip(self.adjustments, *self.factors.tolist(), strict=True):
            for adjustment in adjustments:
                adjustment.apply(odds, strength)
        return self.transform(**data_dict)
