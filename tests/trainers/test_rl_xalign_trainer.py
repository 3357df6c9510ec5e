"""The trainers without training: how nnU-Net finds them, what they refuse, what they log."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from started import random_batch

import rl_nnunet.trainers
from rl_nnunet.trainers import (
    intra_inter_ablations,
    intra_inter_trainer,
    rl_xalign_ablations,
    rl_xalign_trainer,
)
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.loss_terms import without_term

CPU = torch.device("cpu")
CLASSES = sorted(
    name
    for module in (
        rl_xalign_trainer,
        rl_xalign_ablations,
        intra_inter_trainer,
        intra_inter_ablations,
    )
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, AgentTraining) and issubclass(value, nnUNetTrainer)
)


@pytest.fixture
def plans(in_hearts):
    """As nnUNetv2_train hands them over."""
    plans = json.loads((in_hearts.preprocessed / "RLXAlignSmallPlans.json").read_text())
    return {**plans, "continue_training": False}


@pytest.fixture
def dataset_json(in_hearts):
    return json.loads((in_hearts.preprocessed / "dataset.json").read_text())


@pytest.mark.parametrize("name", sorted(set(CLASSES)))
def test_nnunet_finds_the_trainer(monkeypatch, name):
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(rl_nnunet.trainers.__file__).parent))
    found = recursive_find_trainer_class_by_name(name)
    assert found.__name__ == name
    assert issubclass(found, nnUNetTrainer)
    # nnU-Net stores the arguments by these names.
    assert list(inspect.signature(found.__init__).parameters) == [
        "self", "plans", "configuration", "fold", "dataset_json", "device"
    ]  # fmt: skip


def test_more_gpus_than_samples_are_refused(monkeypatch, plans, dataset_json):
    monkeypatch.setattr("rl_nnunet.training.agent_training.world_size", lambda: 3)
    trainer = RLXAlignTrainer(plans, "3d_fullres", 0, dataset_json, CPU)
    with pytest.raises(SystemExit, match="Error: RLXAlignSmallPlans have a batch size of 2.*-num_gpus of at most 2"):
        trainer.initialize()


def test_a_cascade_is_refused(plans, dataset_json):
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    with pytest.raises(SystemExit, match="Error: 3d_cascade_fullres is a cascade.*train 3d_fullres or 3d_lowres"):
        RLXAlignTrainer(plans, "3d_cascade_fullres", 0, dataset_json, CPU)


def test_seed_makes_networks_equal(monkeypatch, tmp_path, plans, dataset_json):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_compile", "f")
    monkeypatch.setenv("RL_NNUNET_SEED", "11")
    weights = []
    for _ in range(2):
        trainer = RLXAlignTrainer(dict(plans), "3d_fullres", 0, dataset_json, CPU)
        trainer.initialize()
        weights.append(trainer.network.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert list(trainer.agents) == [f"pose_stage{stage}" for stage in trainer.module.xalign]


def test_a_weight_that_nnunet_has_renamed_is_not_set_in_vain():
    loss = SimpleNamespace(weight_ce=1, weight_dice=1)
    assert without_term(loss, "weight_ce").weight_ce == 0
    with pytest.raises(AttributeError, match="has no weight_cross_entropy: see tests/test_nnunet_hooks"):
        without_term(loss, "weight_cross_entropy")


def test_a_branch_alone_is_validated_on_the_samples_that_have_it(monkeypatch, tmp_path, plans, dataset_json):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_compile", "f")
    dataset_json["rl_nnunet"]["pairing"] = "paired"
    trainer = rl_xalign_ablations.RLXAlignTrainerNoXAlign(plans, "3d_fullres", 0, dataset_json, CPU)
    trainer.enable_deep_supervision = False
    trainer.initialize()
    # Convolutions round differently for another batch size: in single precision, a voxel near a tie
    # changes its class. The agents' logits are single precision always; hence NoXAlign.
    trainer.network.eval().double()
    patch_size = trainer.configuration_manager.patch_size
    data, target = torch.randn(2, 2, *patch_size).double(), torch.randint(0, 8, (2, 1, *patch_size))
    data[1, 1] = 0  # no MRI

    def per_branch(rows):
        step = trainer.validation_step({"data": data[rows], "target": target[rows].clone()})
        return np.stack([step[f"{key}_hard_per_branch"] for key in ("tp", "fp", "fn")])

    both, first, second = per_branch([0, 1]), per_branch([0]), per_branch([1])
    np.testing.assert_array_equal(both[:, 1], first[:, 1])
    np.testing.assert_array_equal(both[:, 0], first[:, 0] + second[:, 0])
    assert not second[:, 1].any()


def test_a_training_step_links_the_branches_that_show_one_place(start):
    arguments = ("plans", ("configurations", "3d_fullres", "architecture", "arch_kwargs", "branch_dropout"), 0.0)
    trainer = start(RLXAlignTrainer, [arguments])
    trainer.on_train_epoch_start()
    linked = []
    trainer.network.register_forward_hook(lambda _, inputs, output: linked.append(output.link_samples))
    for shown in ({"together": [[0, 1], []]}, {"together": [[], []]}, {}):
        trainer.train_step(random_batch(trainer, shown))
    assert linked == [[0, 0], [], [0, 1, 0, 1]]
    assert [len(agent.ppo) for agent in trainer.agents.values()] == [6] * len(trainer.agents)
    assert np.isnan([step.get("alignment_loss", np.nan) for step in trainer._steps]).tolist() == [False, True, False]
