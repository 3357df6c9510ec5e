"""What each rank does in the tests of trainings on several GPUs; see `ranks`."""

from copy import deepcopy

import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

PER_RANK = ("transitions", "last_state")
"""Entries of an agent's state that are of a rank's own batches."""


def start_rank(trainer_class, plans, dataset_json):
    """Return a trainer of this rank, as nnU-Net makes it, but for the CPU."""
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    plans = {**deepcopy(plans), "continue_training": False}
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json)
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    return trainer


def common_state(trainer):
    """Return all that must be equal on all ranks."""
    agents = {name: agent.state_dict() for name, agent in getattr(trainer, "agents", {}).items()}
    agents = {
        name: {key: value for key, value in state.items() if key not in PER_RANK} for name, state in agents.items()
    }
    return deepcopy(
        {
            "weights": {**trainer.network.module.state_dict(), **dict(trainer.network.module.named_buffers())},
            "optimizer": trainer.optimizer.state_dict(),
            "agents": agents,
            "extra": trainer.extra_state() if hasattr(trainer, "extra_state") else {},
        }
    )


def random_batch(trainer, samples, step, lacking=()):
    """Return a batch of noise that differs from rank to rank, without some channels."""
    generator = torch.Generator().manual_seed(1000 * distributed.get_rank() + step)
    size, labels = trainer.configuration_manager.patch_size, trainer.label_manager
    is_unpaired = hasattr(trainer, "layout") and not trainer.layout.is_paired and "IntraInter" not in type(trainer).__name__
    maps = len(trainer.layout.branches) if is_unpaired else 1
    if labels.has_regions:
        target = torch.randint(0, 2, (samples, labels.num_segmentation_heads, *size), generator=generator)
    else:
        heads = labels.num_segmentation_heads
        target = torch.randint(0, heads, (samples, maps, *size), generator=generator)
    data = torch.randn(samples, trainer.num_input_channels, *size, generator=generator)
    data[:, list(lacking)] = 0
    scales = trainer._get_deep_supervision_scales()
    targets = [
        torch.nn.functional.interpolate(target.float(), scale_factor=tuple(scale)).to(target.dtype) for scale in scales
    ]
    return {"data": data, "target": targets, "keys": [f"case_{step}"] * samples}


def train_on_noise(trainer_class, plans, dataset_json, steps, samples=2, lacking=((), ())):
    """Train some steps on batches of noise; return what must be equal on all ranks, and what agents have learnt."""
    trainer = start_rank(trainer_class, plans, dataset_json)
    trainer.initialize()
    trainer.on_train_epoch_start()
    before = common_state(trainer)
    for step in range(steps):
        trainer.train_step(random_batch(trainer, samples, step, lacking[distributed.get_rank()]))
    return before, common_state(trainer)
