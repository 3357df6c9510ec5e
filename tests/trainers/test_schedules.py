"""The trainers that are made: found by nnU-Net, with the schedule and optimizer of their names."""

import inspect
import json
import pickle
from pathlib import Path

import pytest
import torch
from checkpoints import load
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

import rl_nnunet.trainers
from rl_nnunet.trainers import schedules
from rl_nnunet.trainers.classification_settings import SCHEDULE
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

MADE = sorted(schedules.made_trainers())
PARAMETERS = ["self", "plans", "configuration", "fold", "dataset_json", "device"]


def test_names():
    trainers = len(schedules.TRAINERS) + len(schedules.CLASSIFICATION_TRAINERS)
    epochs = len(schedules.EPOCHS)
    with_adamw = trainers - 1  # all but the one that is about nnU-Net's SGD
    assert len(MADE) == len(set(MADE)) == with_adamw + (trainers + with_adamw) * epochs + 1
    expected = {
        "RLXAlignTrainer_1epoch", "RLXAlignTrainer_20epochs", "RLXAlignTrainerNoCMA_250epochs",
        "RLXAlignTrainerAdamW", "RLXAlignTrainerAdamW_20epochs", "IntraInterTrainerSGD_100epochs",
        "IntraInterTrainerNoAgentsAdamW_5epochs", "RLXAlignTrainerDemo", "nnUNetTrainerModalityDropout_20epochs",
    }  # fmt: skip
    assert expected <= set(MADE)


@pytest.mark.parametrize("trainer", schedules.CLASSIFICATION_TRAINERS, ids=lambda trainer: trainer.__name__)
def test_classifiers_have_a_schedule_of_their_own(trainer):
    """Whatever settings are joined with those of classifiers."""
    assert trainer.settings.schedule == SCHEDULE


def test_schedules_are_those_of_nnunet():
    from nnunetv2.training.nnUNetTrainer.variants.training_length import nnUNetTrainer_Xepochs

    endings = {name.partition("_")[2] for name in vars(nnUNetTrainer_Xepochs) if name.startswith("nnUNetTrainer_")}
    assert endings == {name.partition("_")[2] for name in MADE if name.startswith("RLXAlignTrainer_")}


def test_nnunet_finds_every_made_trainer(monkeypatch):
    folder = str(Path(rl_nnunet.trainers.__file__).parent)
    monkeypatch.setenv("nnUNet_extTrainer", folder)
    found = [recursive_find_trainer_class_by_name("RLXAlignTrainer_20epochs")]
    # What that search does with a folder of nnUNet_extTrainer, without nnU-Net's own modules for each name again.
    found += [recursive_find_python_class(folder, name, None, base_folder=folder) for name in MADE]
    assert [each.__name__ for each in found] == ["RLXAlignTrainer_20epochs", *MADE]
    assert [each.__qualname__ for each in found[1:]] == MADE
    for each in found:
        assert issubclass(each, nnUNetTrainer)
        assert list(inspect.signature(each.__init__).parameters) == PARAMETERS


def test_made_trainers_are_attributes_of_their_module():
    for name in MADE:
        made = getattr(schedules, name)
        assert pickle.loads(pickle.dumps(made)) is made
        assert made.__doc__


@pytest.fixture
def build(in_hearts, tmp_path, monkeypatch):
    """Return a function that builds a made trainer with its network."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    plans, dataset_json = (
        json.loads((in_hearts.preprocessed / f"{name}.json").read_text()) for name in ("RLXAlignSmallPlans", "dataset")
    )

    def make(name):
        arguments = ({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, torch.device("cpu"))
        trainer = getattr(schedules, name)(*arguments)
        trainer.initialize()
        return trainer

    return make


@pytest.mark.parametrize(
    ("name", "epochs", "optimizer", "save_every"),
    [
        ("RLXAlignTrainer_20epochs", 20, torch.optim.SGD, 2),
        ("RLXAlignTrainerAdamW", 1000, torch.optim.AdamW, 50),
        ("RLXAlignTrainerNoAGWDAdamW_1epoch", 1, torch.optim.AdamW, 1),
        ("RLXAlignTrainerNoXAlign_2000epochs", 2000, torch.optim.SGD, 50),
        ("RLXAlignTrainerDemo", 12, torch.optim.AdamW, 2),
    ],
)
def test_a_made_trainer_is_what_its_name_says(build, name, epochs, optimizer, save_every):
    trainer = build(name)
    assert isinstance(trainer, RLXAlignTrainer)
    assert (trainer.num_epochs, trainer.save_every) == (epochs, save_every)
    assert trainer.num_iterations_per_epoch == (75 if name.endswith("Demo") else 250)
    assert type(trainer.optimizer) is optimizer
    assert trainer.lr_scheduler.max_steps == epochs
    assert Path(trainer.output_folder).parent.name == f"{name}__RLXAlignSmallPlans__3d_fullres"
    *_, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert (mirrored is None) == (trainer.inference_allowed_mirroring_axes is None) == name.endswith("Demo")


@pytest.mark.slow
def test_a_made_trainer_trains_and_predicts(hearts, tmp_path):
    """With nnU-Net's 250 iterations; ``--c`` finds the schedule again by the name in the checkpoint."""
    name = "RLXAlignTrainerNoXAlignAdamW_1epoch"
    project = hearts.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train(name)
    fold = project.model(name) / "fold_0"
    assert load(fold)["trainer_name"] == name
    assert len(load(fold)["logging"]["train_losses"]) == 1
    project.train(name, "--c")
    project.predict(name, tmp_path / "predictions")
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 3
