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

PATCH = (16, 192, 160)
"""About what nnU-Net plans for these scans of 192 x 192 x 8 to 20 voxels."""
VALUES = (200, 500, 600)
PAIRS = 60


def crop(labels, label, generator):
    """A patch around a voxel of a class, as nnU-Net's loader cuts it."""
    voxels = np.argwhere(labels == label)
    voxel = voxels[generator.integers(len(voxels))]
    lowest = [-(max(p - n, 0) // 2) for p, n in zip(PATCH, labels.shape, strict=True)]
    start = [max(low, v - p // 2) for low, v, p in zip(lowest, voxel, PATCH, strict=True)]
    inside = labels[tuple(slice(max(s, 0), s + p) for s, p in zip(start, PATCH, strict=True))]
    patch = np.zeros(PATCH, labels.dtype)
    patch[tuple(slice(max(-s, 0), max(-s, 0) + n) for s, n in zip(start, inside.shape, strict=True))] = inside
    return patch


@pytest.fixture(scope="module")
def crops():
    """Label maps (pairs, 1, *patch) of bSSFP and of LGE, each pair around one class."""
    data = os.environ.get("RL_NNUNET_DATA")
    if data is None:
        pytest.skip("no real data: set RL_NNUNET_DATA to a folder that holds mscmr")
    scans = []
    for contrast in ("bSSFP", "LGE"):
        files = sorted(Path(data, "mscmr", contrast).glob("*_manual.nii.gz"))[:12]
        assert files, f"RL_NNUNET_DATA is set, but there are no labels in {data}/mscmr/{contrast}"
        values = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files]
        scans.append([sum(k * (v == value).astype(np.int16) for k, value in enumerate(VALUES, 1)) for v in values])
    generator, pairs = np.random.default_rng(0), []
    for _ in range(PAIRS):
        label = generator.integers(1, 4)
        pairs.append([crop(own[generator.integers(len(own))], label, generator) for own in scans])
    return tuple(torch.from_numpy(np.stack(maps))[:, None] for maps in zip(*pairs, strict=True))


def one_hot(labels):
    """Foreground maps of every n-th voxel, where they lie."""
    sampled = sample_labels(labels)
    return torch.cat([sampled == label for label in (1, 2, 3)], dim=1).float()


def identity_is_best(scores, rotations):
    """In what part of the pairs the identity, the first of the rotations, has the highest score."""
    return (scores[:, rotations].argmax(1) == 0).float().mean().item()


LEFT = turning(turnable_axes([[1, 1, 1], [1, 4, 4]], [10, 1.25, 1.25], PATCH, [1])[0], 3)
EVERY = list(range(24))


def test_the_planned_rotations_keep_the_slices():
    assert len(LEFT) == 8


def test_overlap_of_centered_label_maps_says_identity(crops):
    cubes = [label_cube(labels, 3) for labels in crops]
    scores = anatomical_similarities(*cubes)
    assert identity_is_best(scores, EVERY) >= 0.7
    assert identity_is_best(scores, LEFT) >= 0.8
    # As it was: one and the same place of both crops is compared.
    as_they_lie = [average_to_cube(one_hot(labels), 16) for labels in crops]
    assert identity_is_best(anatomical_similarities(*as_they_lie), EVERY) < 0.45


def test_a_policy_that_sees_the_anatomy_says_identity(crops):
    """Features as good as labels, no training, no labels for centering: the shifts do it."""
    maps, found = [one_hot(labels) for labels in crops], {}
    for max_shift in (0, 2):
        policy = PosePolicy(3, 3, 2, projection_channels=3, max_shift=max_shift)
        policy.projections.data[:] = torch.eye(3)
        logits = policy.logits(policy.context(*maps, torch.tensor([[0, 1]]).expand(PAIRS, 2))).detach()
        found[max_shift] = identity_is_best(logits, EVERY), identity_is_best(logits, LEFT)
    assert found[0][0] < 0.5
    assert found[2][0] >= 0.7
    assert found[2][1] >= 0.7
