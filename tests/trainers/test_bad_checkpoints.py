"""A checkpoint of something else, half a one or none ends in one sentence."""

import os

import pytest
import torch
from started import DELETE, assert_one_sentence

from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


@pytest.fixture
def checkpoint(start):
    """A trainer and a checkpoint that it wrote."""
    trainer = start(RLXAlignTrainer)
    file = f"{trainer.output_folder}/checkpoint_latest.pth"
    trainer.save_checkpoint(file)
    return trainer, file


def edited(content, **entries):
    return {key: value for key, value in {**content, **entries}.items() if value is not DELETE}


def other_dataset(content, **entries):
    arguments = content["init_args"]
    return edited(content, init_args={**arguments, "dataset_json": {**arguments["dataset_json"], **entries}})


@pytest.mark.parametrize(
    ("edit", "fragment"),
    [
        (lambda content: edited(content, rl_nnunet=DELETE), "has no agents, so that RLXAlignTrainer did not write it"),
        (lambda content: edited(content, trainer_name="nnUNetTrainer"), "is a checkpoint of nnUNetTrainer, not of"),
        (lambda content: edited(content, trainer_name="RLXAlignTrainer_20epochs"), "go on with -tr RLXAlignTrainer_20"),
        (lambda content: edited(content, optimizer_state=DELETE), "is no checkpoint of nnU-Net (it has no optimizer_"),
        (lambda content: edited(content, optimizer_state={}), "has no state of an optimizer"),
        (lambda content: edited(content, rl_nnunet={}), "has no agents"),
        (lambda content: edited(content, rl_nnunet=None), "has no agents"),
        (lambda content: [1, 2], "is no checkpoint of nnU-Net"),
        (lambda content: edited(content, network_weights={}), "was trained with other plans"),
        (
            lambda content: edited(
                content, network_weights={k: v[:1] for k, v in content["network_weights"].items() if v.ndim}
            ),
            "was trained with other plans",
        ),
        (lambda content: other_dataset(content, labels={"background": 0, "heart": 1}), "was trained with other labels"),
        (
            lambda content: other_dataset(
                content, rl_nnunet={"branches": {"MRI": ["MRI"], "CT": ["CT"]}, "pairing": "unpaired"}
            ),
            "was trained with other branches, or another pairing",
        ),
        (
            lambda content: other_dataset(
                content, rl_nnunet={"branches": {"CT": ["CT"], "MRI": ["MRI"]}, "pairing": "paired"}
            ),
            "was trained with other branches, or another pairing",
        ),
    ],
)
def test_a_checkpoint_of_something_else(checkpoint, edit, fragment):
    trainer, file = checkpoint
    torch.save(edit(torch.load(file, weights_only=False)), file)
    with pytest.raises(SystemExit) as caught:
        trainer.load_checkpoint(file)
    assert_one_sentence(caught, file, fragment)


def test_a_checkpoint_that_would_run_code(checkpoint, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    trainer, file = checkpoint
    torch.save({**torch.load(file, weights_only=False), "trap": Trap()}, file)
    with pytest.raises(SystemExit) as caught:
        trainer.load_checkpoint(file)
    assert_one_sentence(caught, file, "holds more than numbers and text (", "could run any code")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint(checkpoint, share):
    trainer, file = checkpoint
    with open(file, "r+b") as stream:
        stream.truncate(int(share * stream.seek(0, 2)))
    with pytest.raises(SystemExit) as caught:
        trainer.load_checkpoint(file)
    assert_one_sentence(caught, file, "cannot be read", "truncated")


def test_a_checkpoint_that_is_not_there(checkpoint):
    trainer, file = checkpoint
    with pytest.raises(SystemExit) as caught:
        trainer.load_checkpoint(f"{file}.not")
    assert_one_sentence(caught, "does not exist")


def test_the_checkpoint_itself_is_accepted(checkpoint):
    trainer, file = checkpoint
    trainer.load_checkpoint(file)
    assert trainer._random_state is not None
