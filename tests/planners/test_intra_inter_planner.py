"""``IntraInterPlanner``: plans that build the network; unpaired data are refused."""

import json

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from rl_nnunet.errors import InputError
from rl_nnunet.networks.intra_inter_net import IntraInterNet
from rl_nnunet.planners.intra_inter_planner import IntraInterPlanner, IntraInterSmallPlanner


@pytest.fixture
def paired_hearts(own_hearts, tmp_path, monkeypatch):
    """The hearts, but described as paired; no plan depends on what their images show."""
    raw = tmp_path / "raw" / own_hearts.name
    raw.mkdir(parents=True)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).symlink_to(own_hearts.raw / folder)
    description = json.loads((own_hearts.raw / "dataset.json").read_text())
    description["rl_nnunet"]["pairing"] = "paired"
    (raw / "dataset.json").write_text(json.dumps(description))
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    return own_hearts


def test_plans_carry_every_choice_and_build_the_network(paired_hearts, tmp_path):
    IntraInterSmallPlanner(paired_hearts.name).plan_experiment()
    plans = json.loads((tmp_path / paired_hearts.name / "IntraInterSmallPlans.json").read_text())
    entry = plans["configurations"]["3d_fullres"]
    architecture, arguments = entry["architecture"], entry["architecture"]["arch_kwargs"]
    chosen = {name: arguments[name] for name in ("agents", "iterations", "hidden_size")}
    assert chosen == {"agents": ["intra", "inter"], "iterations": 1, "hidden_size": 64}
    assert entry["modality_dropout"] == 0.5
    assert arguments["modality_names"] == ["CT", "MRI"]
    assert entry["data_identifier"] == "IntraInterSmallPlans_3d_fullres"
    network = get_network_from_plans(
        architecture["network_class_name"], arguments, architecture["_kw_requires_import"], 2, 8
    )
    assert isinstance(network, IntraInterNet)
    with torch.no_grad():
        decision = network.eval()(torch.randn(1, 2, *entry["patch_size"]))
    assert decision.shape == (1, 8, *entry["patch_size"])


def test_unpaired_data_are_refused(own_hearts):
    with pytest.raises(InputError, match="Hearts is unpaired.*use RLXAlignPlanner"):
        IntraInterPlanner(own_hearts.name)
