"""Trainers for tests of trainings on several GPUs, and what each rank does with them; see `ranks`."""

import contextlib
import itertools
import os
import signal
from copy import deepcopy
from dataclasses import replace

import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rl_nnunet.agents.augmentation import AugmentationConfig
from rl_nnunet.trainers.apga_classification_trainer import APGAClassificationTrainer
from rl_nnunet.trainers.apga_trainer import APGARLXAlignTrainer, APGATrainer
from rl_nnunet.trainers.augmentation_policy_trainer import AugmentationPolicyTrainer
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.intra_inter_ablations import (
    IntraInterTrainerGate,
    IntraInterTrainerNoAgents,
    IntraInterTrainerSelection,
)
from rl_nnunet.trainers.intra_inter_classification_trainer import IntraInterClassificationTrainer
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.modality_dropout_trainer import nnUNetTrainerModalityDropout
from rl_nnunet.trainers.rl_xalign_ablations import RLXAlignTrainerLossWeightAgent
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.schedules import make_trainer

PER_RANK = ("transitions", "last_state")
"""Entries of an agent's state that are of a rank's own batches."""
DEVICE_VARIABLE = "RL_NNUNET_TEST_DEVICE"
"""``cuda:0`` lets the ranks share a GPU; then only what does not compare with the CPU is to be expected."""
SCHEDULE = {"num_epochs": 2, "num_iterations_per_epoch": 4, "num_val_iterations_per_epoch": 2, "save_every": 1}


def of_ranks(base, epochs=2):
    """Return a trainer with a schedule of seconds, whose agents learn in it."""
    settings = {"schedule": {**SCHEDULE, "num_epochs": epochs}}
    if hasattr(base.settings, "ppo"):
        settings["ppo"] = replace(base.settings.ppo, transitions_per_update=6, minibatch_size=4)
    if "IntraInter" in base.__name__:
        settings["architecture"] = {**base.settings.architecture, "exploration_share": 0.6}
    if hasattr(base.settings, "masks"):
        settings["masks"] = replace(base.settings.masks, pretrained_share=0.0, draws=2)
    if hasattr(base.settings, "augmentation"):
        settings["augmentation"] = AugmentationConfig(warmup_share=0.0)
    return make_trainer(f"{base.__name__}OfRanks", (base,), __name__, **settings)


RLXAlign = of_ranks(RLXAlignTrainer)
LossWeightAgent = of_ranks(RLXAlignTrainerLossWeightAgent, epochs=4)
APGARLXAlign = of_ranks(APGARLXAlignTrainer)
IntraInter = of_ranks(IntraInterTrainer)
Gate = of_ranks(IntraInterTrainerGate)
NoAgents = of_ranks(IntraInterTrainerNoAgents)
Selection = of_ranks(IntraInterTrainerSelection)
ModalityDropout = of_ranks(nnUNetTrainerModalityDropout)
APGA = of_ranks(APGATrainer)
AugmentationPolicy = of_ranks(AugmentationPolicyTrainer)
Classification = of_ranks(ClassificationTrainer)
IntraInterClassification = of_ranks(IntraInterClassificationTrainer)
APGAClassification = of_ranks(APGAClassificationTrainer)
globals().update({trainer.__name__: trainer for trainer in list(globals().values()) if hasattr(trainer, "settings")})


def start_rank(trainer_class, plans, dataset_json):
    """Return a trainer of this rank, as nnU-Net makes it, but on one device for all ranks, by default the CPU."""
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    plans = {**deepcopy(plans), "continue_training": False}
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json)
    trainer.device = torch.device(os.environ.get(DEVICE_VARIABLE, "cpu"))
    if trainer.device.type == "cpu":
        trainer.grad_scaler = None
    return trainer


def common_state(trainer):
    """Return all that must be equal on all ranks."""
    agents = {name: agent.state_dict() for name, agent in getattr(trainer, "agents", {}).items()}
    network = trainer.network.module
    return deepcopy(
        {
            "weights": {**network.state_dict(), **dict(network.named_buffers())},
            "optimizer": trainer.optimizer.state_dict(),
            "agents": {
                name: {key: value for key, value in state.items() if key not in PER_RANK}
                for name, state in agents.items()
            },
            "extra": trainer.extra_state() if agents else {},
        }
    )


# ---- on noise, to say who lacks what ---------------------------------------------------------------------------------


def random_batch(trainer, samples, step, lacking):
    """Return a batch of noise that differs from rank to rank, without some channels."""
    generator = torch.Generator().manual_seed(1000 * distributed.get_rank() + step)
    size, labels = trainer.configuration_manager.patch_size, trainer.label_manager
    maps = len(trainer.layout.branches) if hasattr(trainer, "layout") and not trainer.layout.is_paired else 1
    shape = (samples, labels.num_segmentation_heads if labels.has_regions else maps, *size)
    target = torch.randint(0, 2 if labels.has_regions else labels.num_segmentation_heads, shape, generator=generator)
    data = torch.randn(samples, trainer.num_input_channels, *size, generator=generator)
    data[:, list(lacking)] = 0
    targets = [
        torch.nn.functional.interpolate(target.float(), scale_factor=tuple(scale)).to(target.dtype)
        for scale in trainer._get_deep_supervision_scales()
    ]
    return {"data": data, "target": targets, "keys": [f"case_{step}"] * samples}


def train_on_noise(cases):
    """Train all cases (trainer class, plans, dataset_json, lacking channels of both ranks) for 20 steps.

    Return of each what must be equal on all ranks, before and after.
    """
    return [_train_on_noise(*case) for case in cases]


def _train_on_noise(trainer_class, plans, dataset_json, lacking):
    trainer = start_rank(trainer_class, plans, dataset_json)
    trainer.initialize()
    trainer.on_train_epoch_start()
    before = common_state(trainer)
    for step in range(20):
        trainer.train_step(random_batch(trainer, 2, step, lacking[distributed.get_rank()]))
    return before, common_state(trainer)


# ---- whole trainings -------------------------------------------------------------------------------------------------


class Died(Exception):
    """In the place of a kill, in the same process: nothing of the trainer is used afterwards."""


def train(trainer_class, plans, dataset_json, results, dies_in=None, resumes=False, validates=False, is_killed=False):
    """Train as ``nnUNetv2_train`` does; return what must be equal on all ranks, and the log.

    `dies_in` is the step (from 1 on) in which the training ends, by SIGKILL if it `is_killed`; `resumes` is ``--c``.
    """
    os.environ["nnUNet_results"] = str(results)
    trainer = start_rank(trainer_class, plans, dataset_json)
    if resumes:
        trainer.load_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    steps, train_step = itertools.count(1), trainer.train_step

    def mortal_step(batch):
        if next(steps) == dies_in:
            if is_killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Died
        return train_step(batch)

    trainer.train_step = mortal_step
    with contextlib.suppress(Died):
        trainer.run_training()
    if validates:
        trainer.perform_actual_validation()
    log = trainer.logger.local_logger.my_fantastic_logging
    return common_state(trainer), {key: values for key, values in log.items() if "timestamps" not in key}


def train_whole_and_interrupted(trainer_class, plans, dataset_json, folder):
    """Train, then train again with an end in the second step of the second epoch, and go on; return first and last."""
    arguments = (trainer_class, plans, dataset_json)
    whole = train(*arguments, f"{folder}/whole", validates=True)
    train(*arguments, f"{folder}/interrupted", dies_in=SCHEDULE["num_iterations_per_epoch"] + 2)
    return whole, train(*arguments, f"{folder}/interrupted", resumes=True)
