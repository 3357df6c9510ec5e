"""Crops of real hearts of different patients, untouched: their pose is the identity, and S has to say so."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from rl_nnunet.agents.rewards import anatomical_similarities, label_cube, sample_labels
from rl_nnunet.plans.rl_u2net import turnable_axes
from rl_nnunet.policies.pose import PosePolicy, average_to_cube
from rl_nnunet.policies.rotations import turning

PATCHES = {(16, 192, 160): (0.85, 0.85, 0.7, 0.7), (16, 128, 128): (0.5, 0.55, 0.45, 0.45)}
"""Patches that show the heart, and some that cut it (it has about 108 x 103 voxels in the plane); in what part of the
pairs the identity has to be the best of 24 and of 8 rotations for the reward, and for the policy."""
VALUES = (200, 500, 600)
PAIRS = 60


def crop(labels, label, patch_size, generator):
    """A patch around a voxel of a class, as nnU-Net's loader cuts it."""
    voxels = np.argwhere(labels == label)
    voxel = voxels[generator.integers(len(voxels))]
    lowest = [-(max(p - n, 0) // 2) for p, n in zip(patch_size, labels.shape, strict=True)]
    start = [max(low, v - p // 2) for low, v, p in zip(lowest, voxel, patch_size, strict=True)]
    inside = labels[tuple(slice(max(s, 0), s + p) for s, p in zip(start, patch_size, strict=True))]
    patch = np.zeros(patch_size, labels.dtype)
    patch[tuple(slice(max(-s, 0), max(-s, 0) + n) for s, n in zip(start, inside.shape, strict=True))] = inside
    return patch


@pytest.fixture(scope="module")
def scans():
    """Label maps of bSSFP and of LGE."""
    data = os.environ.get("RL_NNUNET_DATA")
    if data is None:
        pytest.skip("no real data: set RL_NNUNET_DATA to a folder that holds mscmr")
    both = []
    for contrast in ("bSSFP", "LGE"):
        files = sorted(Path(data, "mscmr", contrast).glob("*_manual.nii.gz"))[:12]
        assert files, f"RL_NNUNET_DATA is set, but there are no labels in {data}/mscmr/{contrast}"
        values = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files]
        both.append([sum(k * (v == value).astype(np.int16) for k, value in enumerate(VALUES, 1)) for v in values])
    return both


@pytest.fixture(scope="module", params=PATCHES, ids=str)
def crops(request, scans):
    """Label maps (pairs, 1, *patch) of bSSFP and of LGE, each pair around one class, and what is expected of them."""
    generator, pairs = np.random.default_rng(0), []
    for _ in range(PAIRS):
        label = generator.integers(1, 4)
        pairs.append([crop(own[generator.integers(len(own))], label, request.param, generator) for own in scans])
    maps = tuple(torch.from_numpy(np.stack(maps))[:, None] for maps in zip(*pairs, strict=True))
    return maps, PATCHES[request.param]


def one_hot(labels):
    """Foreground maps of every n-th voxel, where they lie."""
    sampled = sample_labels(labels)
    return torch.cat([sampled == label for label in (1, 2, 3)], dim=1).float()


def identity_is_best(scores, rotations):
    """In what part of the pairs the identity, the first of the rotations, has the highest score."""
    return (scores[:, rotations].argmax(1) == 0).float().mean().item()


LEFT = turning(turnable_axes([[1, 1, 1], [1, 4, 4]], [10, 1.25, 1.25], (16, 192, 160), [1])[0], 3)
EVERY = list(range(24))


def test_the_planned_rotations_keep_the_slices():
    assert len(LEFT) == 8


def test_overlap_of_centered_label_maps_says_identity(crops):
    maps, (of_24, of_8, _, _) = crops
    cubes = [label_cube(labels, 3) for labels in maps]
    scores = anatomical_similarities(*cubes)
    assert identity_is_best(scores, EVERY) >= of_24
    assert identity_is_best(scores, LEFT) >= of_8
    # As it was: one and the same place of both crops is compared.
    as_they_lie = [average_to_cube(one_hot(labels), 16) for labels in maps]
    assert identity_is_best(anatomical_similarities(*as_they_lie), EVERY) < 0.45


def test_a_policy_that_sees_the_anatomy_says_identity(crops):
    """Features as good as labels, no training, no labels for centering: the shifts do it."""
    labels, (_, _, of_24, of_8) = crops
    maps, found = [one_hot(each) for each in labels], {}
    for max_shift in (0, 2):
        policy = PosePolicy(3, 3, 2, projection_channels=3, max_shift=max_shift)
        policy.projections.data[:] = torch.eye(3)
        logits = policy.logits(policy.context(*maps, torch.tensor([[0, 1]]).expand(PAIRS, 2))).detach()
        found[max_shift] = identity_is_best(logits, EVERY), identity_is_best(logits, LEFT)
    assert found[0][0] < 0.5
    assert found[2][0] >= of_24
    assert found[2][1] >= of_8
