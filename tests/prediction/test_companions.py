"""Windows of two scans side by side in nnU-Net's own loop."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import map_coordinates
from tiny_models import RL_U2NET, dataset_json, name_of, network_of, plans_of
from torch import nn

from rl_nnunet.prediction.companions import Companion, CompanionPredictor, PairedScan, PairedWindows

FAR = np.array([[1.0, 0, 0, 1e6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def predictor_of(predictor_class, network, dimension=3, **options):
    options = {"use_mirroring": False, **options}
    predictor = predictor_class(device=torch.device("cpu"), allow_tqdm=False, **options)
    plans = PlansManager(plans_of(RL_U2NET, dimension))
    predictor.manual_initialization(
        network, plans, plans.get_configuration(name_of(dimension)), None, dataset_json(), "", tuple(range(dimension))
    )
    predictor.list_of_parameters = [network.state_dict()]
    return predictor


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dimension(request):
    return request.param


@pytest.fixture
def network(dimension):
    return network_of(plans_of(RL_U2NET, dimension), dimension)


@pytest.fixture(params=[(7, 13, 11), (9, 9, 16)], ids=["padded", "larger"])
def volumes(request):
    """Return a target whose MR is blank, and an MR of the same size."""
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, *request.param, generator=generator)
    return both * torch.tensor([1.0, 0]).view(2, 1, 1, 1), both[1:]


class OneBranch(nn.Module):
    """Stands for the network where only one branch's logits are asked for."""

    def __init__(self, network, branch):
        super().__init__()
        self.network, self.branch = network, branch

    def forward(self, x):
        return self.network.forward_branches(x).logits[self.branch]

    def load_state_dict(self, *_):
        pass


@pytest.mark.parametrize("mirroring", [False, True])
def test_companion_on_the_same_grid_is_the_second_channel(network, dimension, volumes, mirroring):
    """nnU-Net's loop over the two-channel image, and the logits of one branch."""
    target, mr = volumes
    paired = predictor_of(CompanionPredictor, network, dimension, use_mirroring=mirroring)
    scan = PairedScan(target, (0,), (Companion((1,), mr, np.eye(4)),))
    found = paired.predict_logits_from_preprocessed_data(scan)
    stock = predictor_of(nnUNetPredictor, OneBranch(network, 0), dimension, use_mirroring=mirroring)
    expected = stock.predict_logits_from_preprocessed_data(torch.cat([target[:1], mr]))
    assert torch.equal(found, expected)
    alone = paired.predict_logits_from_preprocessed_data(target)
    assert not torch.equal(found, alone)


def test_companion_out_of_reach_changes_no_bit(network, dimension, volumes):
    target, mr = volumes
    target[:, :, : target.shape[2] // 2] = 0  # and blank windows, in which no branch is known
    scan = PairedScan(target, (0,), (Companion((1,), mr, FAR),))
    found = predictor_of(CompanionPredictor, network, dimension).predict_logits_from_preprocessed_data(scan)
    stock = predictor_of(nnUNetPredictor, network, dimension).predict_logits_from_preprocessed_data(target)
    assert torch.equal(found, stock)


def test_blank_windows_of_the_target_are_predicted_alone(network, dimension, volumes):
    """There are no logits of the target's branch where nothing is to be seen of it."""
    _, mr = volumes
    blank = torch.zeros(2, *mr.shape[1:])
    scan = PairedScan(blank, (0,), (Companion((1,), mr, np.eye(4)),))
    found = predictor_of(CompanionPredictor, network, dimension).predict_logits_from_preprocessed_data(scan)
    stock = predictor_of(nnUNetPredictor, network, dimension).predict_logits_from_preprocessed_data(blank)
    assert torch.equal(found, stock)


def test_network_is_handed_back(network, dimension, volumes):
    target, mr = volumes
    predictor = predictor_of(CompanionPredictor, network, dimension)
    scan = PairedScan(target, (0,), (Companion((1,), mr, np.eye(4)),))
    predictor.predict_logits_from_preprocessed_data(scan)
    assert predictor.network is network
    blank = predictor.predict_logits_from_preprocessed_data(target)
    assert torch.equal(
        blank, predictor_of(nnUNetPredictor, network, dimension).predict_logits_from_preprocessed_data(target)
    )


# ---- windows -------------------------------------------------------------------------------------------------------


NOWHERE, EVERYWHERE, IN_PLANE = np.zeros(3, bool), np.ones(3, bool), np.array([False, True, True])


def window_by_brute_force(data, to_index, lower, size, axes):
    """Return the window voxel by voxel: what lies at the place of each by SciPy, and 0 beyond the edge."""
    center = np.array(lower) + (np.array(size) - 1) / 2
    there = (to_index @ [*center, 1])[:3]
    window = np.zeros((len(data), *size), np.float32)
    for index in np.ndindex(*size):
        place = there - (np.array(size) - 1) / 2 + index
        nearest = np.floor(place + 0.5)
        if ((nearest >= 0) & (nearest < data.shape[1:])).all():
            shown = np.where(axes, place, nearest)[:, None]
            window[(slice(None), *index)] = [map_coordinates(one, shown, order=1, mode="nearest")[0] for one in data]
    return window


@pytest.mark.parametrize("axes", [NOWHERE, IN_PLANE, EVERYWHERE], ids=["voxels", "in plane", "between"])
@pytest.mark.parametrize("seed", range(8))
def test_windows_are_those_at_the_mapped_place(seed, axes):
    generator = np.random.default_rng(seed)
    data = torch.from_numpy(generator.normal(size=(2, 9, 10, 11)).astype(np.float32))
    to_index = np.eye(4)
    to_index[:3, :3] += generator.normal(scale=0.2, size=(3, 3))
    to_index[:3, 3] = generator.normal(scale=4, size=3)
    lower, size = generator.integers(0, 6, 3), np.array([4, 5, 6])
    found = Companion((1, 2), data, to_index).window(lower, size, axes)
    expected = window_by_brute_force(data.numpy(), to_index, lower, size, axes)
    if found is None:
        assert not expected.any()
    else:
        np.testing.assert_allclose(found.numpy(), expected, atol=0 if axes is NOWHERE else 1e-6)


def test_slices_of_2d_are_those_nearest():
    """The slicer of a 2D configuration holds a whole number."""
    data = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 12, 12)
    halved = np.diag([0.5, 1, 1, 1])
    windows = PairedWindows(
        torch.full((2, 12, 12, 12), -1.0), np.zeros(3, int), [Companion((1,), data, halved)], IN_PLANE
    )
    for depth in range(11):
        window = windows[(slice(None), depth, slice(0, 12), slice(0, 12))]
        assert window.shape == (3, 12, 12)
        assert window[2].unique().tolist() == [np.floor(depth / 2 + 0.5)]
    assert windows[(slice(None), 11, slice(0, 12), slice(0, 12))][2].unique().tolist() == [-1.0]  # out of reach


def test_windows_move_to_a_device_as_a_whole():
    windows = PairedWindows(
        torch.zeros(2, 8, 8, 8), np.zeros(3, int), [Companion((1,), torch.ones(1, 8, 8, 8), np.eye(4))], EVERYWHERE
    )
    moved = windows.to(torch.device("meta"))
    assert moved.data.is_meta
    assert moved.companions[0].data.is_meta
    assert moved.shape == (2, 8, 8, 8)
