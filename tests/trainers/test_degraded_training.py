"""Degraded samples in the trainers of ours; `test_modality_dropout_trainer` has stock nnU-Net's."""

import json

import pytest
import torch
from started import assert_one_sentence, random_batch

from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.intra_inter_ablations import IntraInterTrainerNoAgents, IntraInterTrainerSelection
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

DEGRADATION = ("configurations", "3d_fullres", "modality_degradation")
PAIRED = ("dataset", ("rl_nnunet", "pairing"), "paired")


def degraded_channels(trainer, batch):
    """Return how many channels of each sample are not what the batch holds when they get to the network."""
    seen = []
    trainer.on_train_epoch_start()
    torch.manual_seed(1)  # among all damages are shifts of less than a voxel
    with trainer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        trainer.train_step(batch)
    return (seen[0] != batch["data"]).flatten(2).any(2).sum(1).tolist()


@pytest.mark.parametrize(("trainer_class", "edits"), [(IntraInterTrainer, []), (RLXAlignTrainer, [PAIRED])])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_network_is_trained_on_degraded_samples_as_the_plans_say(start, trainer_class, edits, share):
    trainer = start(trainer_class, [("plans", DEGRADATION, share), *edits])
    assert degraded_channels(trainer, random_batch(trainer, targets=1)) == [int(share)] * 2


@pytest.mark.slow
def test_a_classifier_is_trained_on_degraded_samples_as_the_plans_say(grades, monkeypatch):
    for name, value in grades.environment.items():
        monkeypatch.setenv(name, value)
    documents = ("ClassificationSmallPlans", "dataset")
    plans, dataset_json = (json.loads((grades.preprocessed / f"{name}.json").read_text()) for name in documents)
    plans["configurations"]["3d_fullres"]["modality_degradation"] = 1.0
    plans["continue_training"] = False
    trainer = ClassificationTrainer(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    cases = sorted(trainer.classes.labels)[:2]
    batch = {"data": torch.randn(2, 4, *trainer.configuration_manager.patch_size), "keys": cases}
    assert degraded_channels(trainer, batch) == [1, 1]


def test_scans_with_labels_of_their_own_are_not_degraded(start):
    with pytest.raises(SystemExit) as caught:
        start(RLXAlignTrainer, [("plans", DEGRADATION, 0.5)])
    assert_one_sentence(caught, "modality_degradation in the plans", "labels of its own", "remove it from the plans")


def test_only_the_selection_agent_trains_on_degraded_samples_by_itself():
    assert IntraInterTrainerSelection.settings.degradation == 0.5
    assert IntraInterTrainer.settings.degradation == IntraInterTrainerNoAgents.settings.degradation == 0.0
