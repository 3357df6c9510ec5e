"""The agent of the augmentation around trainers: which batches it reaches, and which not."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from started import as_stock, assert_one_sentence

from rl_nnunet.agents.augmentation import AugmentationConfig
from rl_nnunet.dataloading.adjustable_augmentation import KNOBS, AdjustableAugmentation
from rl_nnunet.trainers.augmentation_policy_settings import AugmentationPolicySettings
from rl_nnunet.trainers.augmentation_policy_trainer import AugmentationPolicyRLXAlignTrainer, AugmentationPolicyTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.adjusted_augmentation import AdjustedAugmentation
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.random_state import seed_everything
from rl_nnunet.training.stock_network import StockNetwork

CPU = torch.device("cpu")
SCHEDULE = {"num_epochs": 3, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}
ALWAYS = 1e12
"""Factor of odds."""


class Plain(AgentTraining, StockNetwork, nnUNetTrainer):
    """`AugmentationPolicyTrainer` without its agent."""


class WithoutAugmentation:
    def get_training_transforms(self, *args, **kwargs):
        return self.get_validation_transforms(None)


class Unaugmented(AdjustedAugmentation, AgentTraining, WithoutAugmentation, StockNetwork, nnUNetTrainer):
    """Its augmentation has no transform with a knob."""

    settings = AugmentationPolicySettings()


@pytest.fixture
def begin(request, monkeypatch, tmp_path):
    """Return a function that builds a trainer whose loaders run in this process."""

    def start(base):
        is_branched = issubclass(base, RLXAlignTrainer)
        project = request.getfixturevalue("hearts" if is_branched else "tumors")
        variables = {"nnUNet_results": tmp_path, "nnUNet_n_proc_DA": 0, "RL_NNUNET_SEED": 4}
        for name, value in {**project.environment, **variables}.items():
            monkeypatch.setenv(name, str(value))
        name = "RLXAlignSmallPlans" if is_branched else "IntraInterSmallPlans"
        plans, dataset_json = (json.loads((project.preprocessed / f"{n}.json").read_text()) for n in (name, "dataset"))
        plans = {**(plans if is_branched else as_stock(plans)), "continue_training": False}
        settings = replace(base.settings, schedule=SCHEDULE)
        if issubclass(base, AugmentationPolicyTrainer):
            settings = replace(settings, augmentation=AugmentationConfig(warmup_share=0.0))
        return type(base.__name__, (base,), {"settings": settings})(plans, "3d_fullres", 0, deepcopy(dataset_json), CPU)

    return start


def start_loaders(trainer):
    """Initialize a trainer; return its loaders of training and of validation."""
    trainer.initialize()
    return trainer.get_dataloaders()


def draw(loader):
    """Return the loader's next batch, seeded."""
    seed_everything(0)
    return next(loader)


def test_with_nnunets_own_setting_the_batches_are_those_of_a_trainer_without_agent(begin):
    plain, ours = (start_loaders(begin(base)) for base in (Plain, AugmentationPolicyTrainer))
    for expected, found in zip(map(draw, plain), map(draw, ours), strict=True):
        assert torch.equal(found["data"], expected["data"])
        assert all(torch.equal(a, b) for a, b in zip(found["target"], expected["target"], strict=True))


def test_a_setting_reaches_the_training_batches_and_no_others(begin):
    trainer = begin(AugmentationPolicyTrainer)
    training, validation = start_loaders(trainer)
    before = draw(training)["data"], draw(validation)["data"]
    trainer.agents["augmentation"].factors[0] = ALWAYS
    assert not torch.equal(draw(training)["data"], before[0])
    assert torch.equal(draw(validation)["data"], before[1])


def test_all_branches_of_unpaired_data_have_one_setting(begin):
    trainer = begin(AugmentationPolicyRLXAlignTrainer)
    training, validation = start_loaders(trainer)
    pipelines = [loader.transforms for loader in training.data_loader.loaders.values()]
    assert len(pipelines) == 2
    assert len({id(pipeline.transform) for pipeline in pipelines}) == 2
    assert all(pipeline.factors is trainer.agents["augmentation"].factors for pipeline in pipelines)
    for loader in validation.data_loader.loaders.values():
        assert not isinstance(loader.transforms, AdjustableAugmentation)


def test_a_training_draws_records_and_saves_settings(begin):
    trainer = begin(AugmentationPolicyTrainer)
    trainer.run_training()
    log = trainer.logger.local_logger.my_fantastic_logging
    agent = trainer.agents["augmentation"]
    assert list(agent.planned) == list(KNOBS)
    for name, planned in agent.planned.items():
        first, *others = log[f"augmentation_probability_{name}"]
        assert first == planned
        assert all(0 < other < 1 and other != planned for other in others)
        assert log[f"augmentation_strength_{name}"][0] == 1
    dice = [float(value) for value in log["mean_fg_dice"]]
    assert math.isnan(log["augmentation_reward"][0])
    assert log["augmentation_reward"][1:] == pytest.approx([dice[1] - dice[0], dice[2] - dice[1]], nan_ok=True)
    resumed = begin(AugmentationPolicyTrainer)
    resumed.load_checkpoint(f"{trainer.output_folder}/checkpoint_final.pth")
    assert torch.equal(resumed.agents["augmentation"].factors, agent.factors)
    network = begin(Plain)
    network.initialize()
    assert trainer.network.state_dict().keys() == network.network.state_dict().keys()


def test_a_trainer_that_does_not_augment_is_refused(begin):
    with pytest.raises(SystemExit) as caught:
        begin(Unaugmented).initialize()
    assert_one_sentence(caught, "The augmentation of Unaugmented has no transform that an agent could adjust")
