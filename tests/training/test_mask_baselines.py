"""What the mask agent has to beat does what it is called."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rl_nnunet.training.mask_baselines import Cutout, GradCAM, KeepAll


def test_no_mask_keeps_everything():
    assert KeepAll(2).keep({"data": torch.randn(3, 2, 4, 5)}).all()
    assert KeepAll(2).keep({"data": torch.randn(3, 2, 4, 5)}).shape == (3, 2, 4, 5)


@pytest.mark.parametrize("spatial", [(12, 10), (6, 8, 7)])
def test_cutout_erases_one_rectangle_per_image_and_group(spatial):
    np.random.seed(0)  # noqa: NPY002 - what the library's transform draws from
    kept = Cutout(2).keep({"data": torch.randn(20, 3, *spatial)})
    assert kept.shape == (20, 2, *spatial)
    volumes = set()
    for mask in kept.flatten(0, 1):
        erased = (~mask).nonzero()
        edges = erased.amax(0) - erased.amin(0) + 1
        assert len(erased) == edges.prod()
        volumes.add(len(erased))
    assert len(volumes) > 10


def test_grad_cam_is_that_of_the_closed_form():
    """For a linear head over averaged maps, the weights are those of the head, times 1 - p of the truth."""
    torch.manual_seed(0)
    features = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    head = nn.Linear(4, 2)
    data, truth = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 1, 0, 1])

    def losses(batch):
        return F.cross_entropy(head(features(batch["data"]).mean((2, 3))), batch["target"], reduction="none")[:, None]

    with torch.no_grad():
        kept = GradCAM(losses, features).keep({"data": data, "target": truth})
        maps = features(data)
        direction = head.weight[truth] - head.weight[1 - truth]  # of the true class against the other
        attention = F.relu((direction[:, :, None, None] * maps).sum(1, keepdim=True))
        attention = F.interpolate(attention, (8, 8), mode="bilinear")
        expected = attention > 0.5 * attention.amax((2, 3), keepdim=True)
    assert torch.equal(kept, expected)
    assert kept.any()
    assert not kept.all()
    assert all(parameter.grad is None for parameter in [*features.parameters(), *head.parameters()])


def test_grad_cam_keeps_nothing_where_nothing_helps():
    features = nn.Conv2d(1, 1, 1)
    grad_cam = GradCAM(lambda batch: features(batch["data"]).mean((1, 2, 3))[:, None] * 0, features)
    kept = grad_cam.keep({"data": torch.randn(2, 1, 4, 4)})
    assert not kept.any()
