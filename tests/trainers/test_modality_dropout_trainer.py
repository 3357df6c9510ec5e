"""Stock nnU-Net with modality dropout, and with degraded modalities, on stock plans: what its samples are."""

import json
from copy import deepcopy

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from started import as_stock

from rl_nnunet.trainers.modality_dropout_trainer import (
    nnUNetTrainerModalityDegradation,
    nnUNetTrainerModalityDropout,
)

CPU = torch.device("cpu")


@pytest.fixture
def stock(tumors, tmp_path, monkeypatch):
    """Return a function that starts the trainer on stock plans with some entries of the configuration."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tumors.preprocessed.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    plans, dataset_json = (
        json.loads((tumors.preprocessed / f"{name}.json").read_text()) for name in ("IntraInterSmallPlans", "dataset")
    )
    ours = deepcopy(plans)
    stock_plans = as_stock(plans)
    del stock_plans["configurations"]["3d_fullres"]["modality_dropout"]

    def start(is_ours=False, trainer_class=nnUNetTrainerModalityDropout, **entries):
        plans = ours if is_ours else stock_plans
        plans["configurations"]["3d_fullres"].update(entries)
        trainer = trainer_class({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU)
        trainer.initialize()
        trainer.on_train_start()
        return trainer

    return start


def present(trainer, batches=20):
    """Return which channels the samples of some batches have."""
    data = torch.cat([next(trainer.dataloader_train)["data"] for _ in range(batches)])
    return data.flatten(2).any(2)


def test_samples_lack_modalities_as_the_plans_say(stock):
    assert not present(stock(modality_dropout=1.0)).all()
    assert present(stock(modality_dropout=1.0)).any(1).all()
    assert present(stock(modality_dropout=0.0)).all()


def test_a_share_that_is_none_ends_in_a_sentence(stock):
    with pytest.raises(SystemExit, match="Error: modality_dropout in the plans must be a probability"):
        stock(modality_dropout=2)


def test_plans_of_our_networks_end_in_a_sentence(stock):
    with pytest.raises(SystemExit, match="Error: The plans IntraInterSmallPlans build IntraInterNet, but .*nnUNetPlan"):
        stock(is_ours=True)


def test_network_loss_and_step_are_those_of_nnunet(stock):
    trainer = stock()
    assert type(trainer.network).__module__.startswith("dynamic_network_architectures")
    for hook in ("train_step", "validation_step", "_build_loss", "configure_optimizers", "get_dataloaders", "do_split"):
        assert getattr(type(trainer), hook) is getattr(nnUNetTrainer, hook)


def trained_on(trainer, batch):
    """Return what the network sees in a training step on a batch."""
    seen = []
    torch.manual_seed(1)  # among all damages are shifts of less than a voxel
    with trainer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        trainer.train_step(batch)
    return seen[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_samples_are_degraded_as_the_plans_say(stock, share):
    trainer = stock(trainer_class=nnUNetTrainerModalityDegradation, modality_degradation=share, modality_dropout=0.0)
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    changed = (trained_on(trainer, batch) != batch["data"]).flatten(2).any(2).sum(1)
    assert changed.tolist() == [int(share)] * len(batch["data"])


def test_validations_see_sound_samples(stock):
    trainer = stock(trainer_class=nnUNetTrainerModalityDegradation, modality_degradation=1.0)
    batch, seen = next(trainer.dataloader_val), []
    with trainer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        trainer.validation_step(batch)
    assert torch.equal(seen[0], batch["data"])


def test_plans_that_do_not_say_mean_half_of_the_samples(stock):
    assert stock(trainer_class=nnUNetTrainerModalityDegradation).degraded_share == 0.5


def test_a_share_to_degrade_that_is_none_ends_in_a_sentence(stock):
    with pytest.raises(SystemExit, match="Error: modality_degradation in the plans must be a probability"):
        stock(trainer_class=nnUNetTrainerModalityDegradation, modality_degradation="half")
