"""How often a training step makes the host wait for the device."""

import pytest
import torch
from started import random_batch
from synchronizations import Synchronizations

from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

KWARGS = ("configurations", "3d_fullres", "architecture", "arch_kwargs")
NEEDED = {
    "patches.rows_of": 1,  # which branches the samples have decides what runs
    "branched_loss.forward": 1,  # AGWD weighs by the losses; all that is reported comes along
    "nnUNetTrainer.train_step": 2,  # nnU-Net's own: one tensor, taken to the host and to NumPy
}


@pytest.mark.parametrize("matched", [{}, {"matched": [False, True]}], ids=["all matched", "one matched"])
def test_a_step_waits_for_what_the_algorithm_needs(start, matched):
    trainer = start(RLXAlignTrainer, [("plans", (*KWARGS, "branch_dropout"), 0.0)])
    trainer.on_train_epoch_start()
    trainer.train_step(random_batch(trainer, matched))
    with Synchronizations() as synchronizations:
        trainer.train_step(random_batch(trainer, matched))
    # AGWD's averages lie on the host, whatever the device.
    places = {name: n for name, n in synchronizations.places.items() if not name.startswith("adaptive_weights.")}
    assert places.pop("branched_loss._balance") == 2  # likewise: AGWD's weights, for the log
    assert places == NEEDED
    recorded = [len(agent.ppo) for agent in trainer.agents.values()]
    assert recorded == [8 if not matched else 4] * len(recorded)
    assert all(isinstance(trainer._steps[-1][f"reward_stage{a.stage}"], torch.Tensor) for a in trainer.agents.values())


def test_the_values_of_an_epoch_come_in_one_transfer(start):
    trainer = start(RLXAlignTrainer, [("plans", (*KWARGS, "branch_dropout"), 0.0)])
    trainer.on_train_epoch_start()
    outputs = [trainer.train_step(random_batch(trainer, {})) for _ in range(3)]
    steps = [dict(step) for step in trainer._steps]
    with Synchronizations() as synchronizations:
        trainer.on_train_epoch_end(outputs)
    assert synchronizations.places == {"agent_training.fetch": 1}
    name = f"similarity_stage{next(iter(trainer.agents.values())).stage}"
    expected = sum(step[name].item() for step in steps) / 3
    assert trainer.logger.get_value(name, step=-1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_step_of_the_weight_agents_waits_for_what_the_algorithm_needs(start, share):
    trainer = start(IntraInterTrainer, [("plans", (*KWARGS, "exploration_share"), share)])
    trainer.on_train_epoch_start()
    trainer.train_step(random_batch(trainer, {}, targets=1))
    with Synchronizations() as synchronizations:
        trainer.train_step(random_batch(trainer, {}, targets=1))
    # The counters of Adam's steps lie on the host, and whether to explore is drawn there.
    places = {n: c for n, c in synchronizations.places.items() if n not in ("nnUNetTrainer.train_step",
                                                                            "iterated_net.forward")}  # fmt: skip
    assert places == {
        "patches.rows_of": 1,  # which modalities the samples have decides what runs
        "iterated_loss.forward": 1,  # all that is reported
        **({"weights.learn": 2} if share else {}),  # per agent, whether the rewards are numbers
    }


def test_a_step_of_the_selection_agent_waits_for_what_the_algorithm_needs(start):
    planned = {"agents": ["selection"], "iterations": 0, "exploration_share": 1.0}
    trainer = start(IntraInterTrainer, [("plans", (*KWARGS, name), value) for name, value in planned.items()])
    trainer.on_train_epoch_start()
    trainer.train_step(random_batch(trainer, {}, targets=1))
    with Synchronizations() as synchronizations:
        trainer.train_step(random_batch(trainer, {}, targets=1))
    # Minibatches and whether to try are drawn on the host, where the counters of Adam's steps lie, too.
    on_host = ("nnUNetTrainer.train_step", "intra_inter_net._forward_selecting", "selection._update")
    assert {name: count for name, count in synchronizations.places.items() if name not in on_host} == {
        "patches.rows_of": 1,
        "iterated_loss.forward": 1,
        "selection.learn": 1,  # whether the rewards are numbers
    }
