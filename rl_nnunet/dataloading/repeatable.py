"""Augmentation that depends on the seed alone, and not on how busy the machine is.

nnU-Net lets its Gaussian blur time two ways of convolving, for each size of the kernel, and takes the faster one. Their
results differ in the last digit, and a training with a seed then differs from the next with the same seed.
"""

from __future__ import annotations

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform


def make_repeatable(transform: BasicTransform) -> int:
    """Stop all Gaussian blurs within a transform from timing themselves; return how many there are."""
    if isinstance(transform, GaussianBlurTransform):
        transform.benchmark = False
        return 1
    inner = [*getattr(transform, "transforms", []), getattr(transform, "transform", None)]
    return sum(make_repeatable(each) for each in inner if each is not None)
