"""One branch repeats the rotation and scaling of another, within nnU-Net's own augmentation."""

import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.dataloading.adjustable_augmentation import AdjustableAugmentation
from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.shared_spatial import share_spatial


def pipeline():
    """Rotation and scaling, always."""
    spatial = SpatialTransform((5, 6, 7), 0, False, p_rotation=1.0, rotation=(-1.0, 1.0), p_scaling=1.0)
    return KeepBlank(ComposeTransforms([spatial]), [0.0])


def test_only_the_samples_that_follow_repeat():
    np.random.seed(0)  # noqa: NPY002 - batchgeneratorsv2 draws from the global generator
    pipelines, image = [pipeline(), pipeline()], torch.randn(1, 9, 9, 9)
    (leader,), (follower,) = map(share_spatial, pipelines)
    for repeats in ([True, False, True], [False, True, True]):
        leader.start_batch()
        follower.start_batch(leader, repeats)
        led, followed = (
            [
                each(image=image.clone(), segmentation=torch.ones(1, 9, 9, 9, dtype=torch.int16))["image"]
                for _ in range(3)
            ]
            for each in pipelines
        )
        assert [torch.equal(a, b) for a, b in zip(led, followed, strict=True)] == repeats


def test_a_leader_is_nnunets_own_transform():
    image = torch.randn(1, 9, 9, 9)
    np.random.seed(1)  # noqa: NPY002
    stock = [pipeline()(image=image.clone())["image"] for _ in range(2)]
    shared = pipeline()
    (leader,) = share_spatial(shared)
    np.random.seed(1)  # noqa: NPY002
    leader.start_batch()
    assert all(torch.equal(expected, shared(image=image.clone())["image"]) for expected in stock)


def test_who_adjusts_the_augmentation_still_does():
    stock = nnUNetTrainer.get_training_transforms(
        (8, 8, 8), (-0.5, 0.5), None, (0, 1), False, use_mask_for_norm=[False]
    )
    factors = torch.ones(2, 1, dtype=torch.float64)
    adjusted = AdjustableAugmentation(stock, ["rotation"], factors)
    (shared,) = share_spatial(adjusted)
    shared.start_batch()
    before = shared.transform.p_rotation
    factors[0] = 4.0  # of the odds
    adjusted(image=torch.randn(1, 8, 8, 8), segmentation=torch.zeros(1, 8, 8, 8, dtype=torch.int16))
    assert np.isclose(shared.transform.p_rotation / (1 - shared.transform.p_rotation), 4 * before / (1 - before))
