"""What a network with a selection agent leaves out, counted and told."""

import re

import pytest
import SimpleITK as sitk
import torch
from tiny_models import INTRA_INTER, network_of, plans_of, write_model
from torch import nn

from rl_nnunet.prediction.left_out import LeftOut

NAMES = ("CT", "MR")
LAST_LAYER = "policies.selection.layers.2"


@pytest.fixture
def network():
    return network_of(plans_of(INTRA_INTER, 2), 2)


def prefer(network, action):
    last = network.policies["selection"].layers[-1]
    nn.init.zeros_(last.weight)
    last.bias.data = 5.0 * torch.eye(3)[action]


def test_shares_are_of_the_windows_with_the_modality(network):
    watch, x = LeftOut(network, NAMES), torch.randn(4, 2, 8, 8)
    assert watch.take() == {}
    prefer(network, 1)
    network(x)
    prefer(network, 2)
    network(x[:1])
    assert watch.take() == {"CT": 0.0, "MR": 0.8}
    assert watch.take() == {}
    x[:, 1] = 0
    prefer(network, 1)
    network(x)  # the only modality cannot be left out, and what is absent is not
    assert watch.take() == {"CT": 0.0}


@pytest.mark.parametrize("regions", [False, True])
def test_windows_that_show_nothing_do_not_count(network, regions):
    network.observer.regions = regions
    shows = [False, False, True, False]

    def draw(_, inputs, logits):
        logits = torch.full_like(logits, -1.0)
        logits[:, 0] = -1.0 if regions else 1.0  # of classes, the first one is the background
        logits[shows[: len(logits)], -1, 2, 3] = 2.0
        return logits

    network.register_forward_hook(draw)
    watch, x = LeftOut(network, NAMES), torch.randn(4, 2, 8, 8)
    prefer(network, 0)
    network(x[:2])
    assert watch.take() == {}
    network(x)
    prefer(network, 2)
    network(x)
    assert watch.take() == {"CT": 0.5, "MR": 0.0}


def test_networks_without_the_agent_leave_out_nothing():
    network = nn.Identity()
    watch = LeftOut(network, NAMES)
    network(torch.randn(1))
    assert watch.take() == {}


def test_the_command_tells_what_it_left_out(patient, predict, make_scan):
    model = write_model(patient.root / "selecting", INTRA_INTER)
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    weights = checkpoint["network_weights"]
    weights[f"{LAST_LAYER}.weight"] *= 0
    weights[f"{LAST_LAYER}.bias"] = torch.tensor([0.0, 5.0, 0.0])
    torch.save(checkpoint, file)
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    outcome = predict(model, patient.images, patient.output)
    assert outcome.code == 0, outcome.err
    lines = [re.split(r" {2,}", line) for line in outcome.out[outcome.out.index("case  ") :].splitlines()]
    told = {cells[0]: cells[4] for cells in lines if cells[0] in ("case", "p1", "p2")}
    assert told == {"case": "left out", "p1": "MR 1.00", "p2": "–"}


def test_without_such_an_agent_there_is_no_column(patient, predict):
    assert "left out" not in predict(patient.model, patient.images, patient.output).out
