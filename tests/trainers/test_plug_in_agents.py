"""A ten-line agent in three trainers, and what trainers log against what they draw."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from started import as_stock

from rl_nnunet.agents.agent import Agent
from rl_nnunet.progress_plot import Panel, last
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.trainers.schedules import TRAINERS
from rl_nnunet.training.agent_training import AgentTraining
from rl_nnunet.training.masked_steps import MaskedSteps
from rl_nnunet.training.settings import TrainerSettings
from rl_nnunet.training.stock_network import StockNetwork

CPU = torch.device("cpu")
SCHEDULE = {"num_epochs": 2, "num_iterations_per_epoch": 3, "num_val_iterations_per_epoch": 1}


class StepCounter(Agent):
    panels = (
        Panel("steps", "number", ("counted_steps",), last),
        Panel("loss seen", "loss", ("seen_loss",)),
        Panel("validation seen", "Dice", ("seen_score", "seen_branches"), None),
    )

    def __init__(self):
        self.steps = 0

    def before_step(self, batch):
        self.steps += 1
        return batch

    def learn(self, report):
        return {"counted_steps": self.steps, "seen_loss": report.loss}

    def learn_from_validation(self, report):
        return {"seen_score": report.score, "seen_branches": len(report.branch_scores)}

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class KeepsTheGraph(Agent):
    """Logs a tensor of the graph, under a key that a checkpoint of `StepCounter` does not know."""

    panels = (Panel("parameter", "value", ("parameter",)),)

    def __init__(self, network):
        self.parameter = next(network.parameters())

    def learn(self, report):
        return {"parameter": self.parameter.mean()}


class Counting:
    def build_agents(self):
        return {**super().build_agents(), "counter": StepCounter()}


class CountingStock(Counting, AgentTraining, nnUNetTrainer):
    settings = TrainerSettings(schedule=SCHEDULE)


class CountingRLXAlign(Counting, RLXAlignTrainer):
    settings = replace(RLXAlignTrainer.settings, schedule=SCHEDULE)


class CountingIntraInter(Counting, IntraInterTrainer):
    settings = replace(IntraInterTrainer.settings, schedule=SCHEDULE)


def plans_of(project, name):
    plans = json.loads((project.preprocessed / f"{name}.json").read_text())
    return {**plans, "continue_training": False}, json.loads((project.preprocessed / "dataset.json").read_text())


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Let trainings run in this process, with nnU-Net's folders of a project and results of their own."""

    def enter(project):
        for name, value in {**project.environment, "nnUNet_results": tmp_path, "nnUNet_n_proc_DA": 0}.items():
            monkeypatch.setenv(name, str(value))
        return project

    return enter


@pytest.mark.parametrize(
    ("trainer_class", "data", "plans_name"),
    [
        (CountingStock, "tumors", "IntraInterSmallPlans"),
        (CountingRLXAlign, "hearts", "RLXAlignSmallPlans"),
        (CountingIntraInter, "tumors", "IntraInterSmallPlans"),
    ],
)
def test_an_agent_plugs_into_any_trainer(request, quick, trainer_class, data, plans_name):
    """It is logged, drawn, saved and restored, beside the agents that are there already."""
    plans, dataset_json = plans_of(quick(request.getfixturevalue(data)), plans_name)
    if trainer_class is CountingStock:
        plans = as_stock(plans)
    trainer = trainer_class(deepcopy(plans), "3d_fullres", 0, dataset_json, CPU)
    trainer.run_training()
    log = trainer.logger.local_logger.my_fantastic_logging
    assert log["counted_steps"] == [3, 6]
    assert log["seen_loss"] == pytest.approx([float(loss) for loss in log["train_losses"]], rel=1e-5)
    assert log["seen_score"] == log["mean_fg_dice"]
    assert log["seen_branches"] == [2, 2] if trainer_class is CountingRLXAlign else [0, 0]
    assert "counter" in trainer.agents
    assert all(len(log[key]) == 2 for panel in trainer.panels for key in panel.keys)
    folder = trainer.output_folder
    assert torch.load(f"{folder}/checkpoint_final.pth", weights_only=False)["rl_nnunet"]["agents"]["counter"] == {
        "steps": 6
    }
    with open(f"{folder}/progress_rl.png", "rb") as picture:
        assert picture.read(4) == b"\x89PNG"

    resumed = trainer_class(deepcopy(plans), "3d_fullres", 0, dataset_json, CPU)
    resumed.load_checkpoint(f"{folder}/checkpoint_final.pth")
    assert resumed.agents["counter"].steps == 6
    assert resumed.logger.local_logger.my_fantastic_logging["counted_steps"] == [3, 6]

    class WithoutIt(*trainer_class.__bases__[1:]):
        pass

    WithoutIt.__name__ = trainer_class.__name__
    with pytest.raises(SystemExit, match=r"has the agents .*counter, but Counting.*; train anew without --c"):
        WithoutIt(deepcopy(plans), "3d_fullres", 0, dataset_json, CPU).load_checkpoint(f"{folder}/checkpoint_final.pth")


@pytest.mark.parametrize(
    "base", [t for t in TRAINERS if issubclass(t, AgentTraining)], ids=lambda trainer: trainer.__name__
)
def test_what_is_logged_is_what_is_drawn(request, quick, base):
    """Every key that a step of a trainer logs has one panel, and every panel's keys are logged."""
    is_branched, is_stock = issubclass(base, RLXAlignTrainer), issubclass(base, StockNetwork)
    project = quick(request.getfixturevalue("hearts" if is_branched else "tumors"))
    plans, dataset_json = plans_of(project, "RLXAlignSmallPlans" if is_branched else "IntraInterSmallPlans")
    settings = base.settings
    if is_stock:
        plans = as_stock(plans)
    else:
        ppo = replace(settings.ppo, transitions_per_update=1)
        always = {"branch_dropout": 0.0} if is_branched else {"exploration_share": 1.0}
        settings = replace(settings, ppo=ppo, architecture={**settings.architecture, **always})
    if issubclass(base, MaskedSteps):
        settings = replace(settings, masks=replace(settings.masks, pretrained_share=0.0, smallest_kept=0.0))
    trainer = type(base.__name__, (base,), {"settings": settings})(plans, "3d_fullres", 0, dataset_json, CPU)
    trainer.enable_deep_supervision = False
    trainer.initialize()
    trainer.on_train_epoch_start()
    patch_size = trainer.configuration_manager.patch_size
    channels = len(dataset_json["channel_names"])
    targets = (2, 2 if is_branched else trainer.label_manager.num_segmentation_heads, *patch_size)
    trainer.train_step({"data": torch.randn(2, channels, *patch_size), "target": torch.randint(0, 2, targets)})
    panels = trainer.panels
    keys = [key for panel in panels for key in panel.keys]
    assert len(set(keys)) == len(keys)
    assert set().union(*trainer._steps) == {
        key for panel in panels if panel.reduction is not None for key in panel.keys
    }
    assert set(keys) <= trainer.logger.local_logger.my_fantastic_logging.keys()


class Renewed(AgentTraining, nnUNetTrainer):
    settings = TrainerSettings(schedule=SCHEDULE)

    def build_agents(self):
        return {"agent": KeepsTheGraph(self.module) if self.is_new else StepCounter()}


def renewed(project, is_new):
    plans, dataset_json = plans_of(project, "IntraInterSmallPlans")
    trainer = type("Renewed", (Renewed,), {"is_new": is_new})(as_stock(plans), "3d_fullres", 0, dataset_json, CPU)
    trainer.initialize()
    return trainer


def test_a_key_that_is_newer_than_the_checkpoint(tumors, quick):
    """Training goes on; the curve begins where the key does. A logged tensor keeps no graph alive."""
    trainer = renewed(quick(tumors), is_new=False)
    trainer.current_epoch = 1
    trainer.save_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    newer = renewed(tumors, is_new=True)
    newer.load_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    newer.current_epoch = 1
    newer.run_training()
    log = newer.logger.local_logger.my_fantastic_logging["parameter"]
    assert math.isnan(log[0])
    assert math.isfinite(log[1])
    assert not any(step["parameter"].requires_grad for step in newer._steps)


def test_two_panels_of_one_key_are_refused(tumors, quick):
    plans, dataset_json = plans_of(quick(tumors), "IntraInterSmallPlans")
    twice = type("Twice", (CountingStock,), {"own_panels": lambda self: StepCounter.panels[:1]})
    trainer = twice(as_stock(plans), "3d_fullres", 0, dataset_json, CPU)
    with pytest.raises(ValueError, match="two panels have the log key counted_steps"):
        trainer.initialize()


def test_a_misspelled_schedule_is_refused():
    with pytest.raises(ValueError, match="a schedule has num_epochs.*, but no num_epoch"):
        TrainerSettings(schedule={"num_epoch": 2})
