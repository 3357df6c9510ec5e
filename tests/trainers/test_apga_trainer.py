"""Masks around trainers: who is trained by which step, on what, and what is kept of the images."""

import json
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
from started import as_stock

from rl_nnunet.agents.masks import MaskConfig
from rl_nnunet.branches import blank_values
from rl_nnunet.trainers.apga_ablations import (
    APGATrainerCutout,
    APGATrainerGradCAM,
    APGATrainerNone,
    APGATrainerPaper,
    APGATrainerScriptLoss,
)
from rl_nnunet.trainers.apga_trainer import APGARLXAlignTrainer, APGATrainer, SegmentationMasks
from rl_nnunet.trainers.intra_inter_settings import IntraInterSettings
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer

CPU = torch.device("cpu")
AT_ONCE = MaskConfig(pretrained_share=0.0, draws=2)
STOCK = (APGATrainer, APGATrainerPaper, APGATrainerScriptLoss, APGATrainerNone, APGATrainerCutout, APGATrainerGradCAM)


@dataclass(frozen=True)
class MaskedIntraInterSettings(IntraInterSettings):
    masks: MaskConfig = AT_ONCE


class MaskedIntraInter(SegmentationMasks, IntraInterTrainer):
    """No trainer of ours: the mixin goes around any."""

    settings = MaskedIntraInterSettings()


@pytest.fixture
def begin(request, monkeypatch, tmp_path):
    """Return a function that starts a trainer in its first epoch, with masks from the first step on."""

    def start(base, masks=None, **settings):
        is_branched = base is APGARLXAlignTrainer
        project = request.getfixturevalue("hearts" if is_branched else "tumors")
        for name, value in {**project.environment, "nnUNet_results": tmp_path, "nnUNet_n_proc_DA": 0}.items():
            monkeypatch.setenv(name, str(value))
        name = "RLXAlignSmallPlans" if is_branched else "IntraInterSmallPlans"
        plans, dataset_json = (json.loads((project.preprocessed / f"{n}.json").read_text()) for n in (name, "dataset"))
        if issubclass(base, APGATrainer):
            plans = as_stock(plans)
        masks = masks or replace(base.settings.masks, pretrained_share=0.0, draws=2)
        settings = replace(base.settings, masks=masks, **settings)
        trainer_class = type(base.__name__, (base,), {"settings": settings})
        torch.manual_seed(0)
        trainer = trainer_class({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU)
        trainer.initialize()
        trainer.on_train_epoch_start()
        return trainer

    return start


def random_batch(trainer, **entries):
    patch_size, channels = trainer.configuration_manager.patch_size, trainer.num_input_channels
    is_branched = isinstance(trainer, APGARLXAlignTrainer)
    targets = (2, 2 if is_branched else trainer.label_manager.num_segmentation_heads, *patch_size)
    scales = trainer._get_deep_supervision_scales()
    target = torch.randint(0, 2, targets)
    target = [
        torch.nn.functional.interpolate(target.float(), scale_factor=tuple(scale)).to(target.dtype) for scale in scales
    ]
    return {"data": torch.randn(2, channels, *patch_size), "target": target, "keys": ["a", "b"], **entries}


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def blank_of(trainer):
    """The value that an absent channel has, and an erased voxel."""
    properties = trainer.plans_manager.foreground_intensity_properties_per_channel
    values = blank_values(trainer.configuration_manager.normalization_schemes, properties)
    return torch.tensor(values).view(1, -1, 1, 1, 1)


def are_equal(before, after):
    return all(torch.equal(value, after[name]) for name, value in before.items())


class Recorder:
    """Stands before a trainer's step on a batch and remembers it."""

    def __init__(self, trainer):
        self.batches = []
        step = trainer.optimizer.step
        forward = trainer.network.forward

        def recording_forward(data):
            if trainer.network.training:
                self.batches.append(data.detach().clone())
            return forward(data)

        trainer.network.forward = recording_forward
        self.steps = 0

        def counting_step(*args, **kwargs):
            self.steps += 1
            return step(*args, **kwargs)

        trainer.optimizer.step = counting_step


@pytest.mark.parametrize("base", [*STOCK, APGARLXAlignTrainer, MaskedIntraInter], ids=lambda base: base.__name__)
def test_two_steps_per_batch_of_which_the_second_is_on_masked_images(begin, base):
    masks = replace(base.settings.masks, pretrained_share=0.0, draws=2, smallest_kept=0.0)
    trainer = begin(base, masks)
    recorder, batch = Recorder(trainer), random_batch(trainer)
    trainer.train_step(batch)
    assert recorder.steps == 2
    original, aided = recorder.batches
    assert torch.equal(original, batch["data"])
    is_kept = aided == original
    assert (is_kept | (aided == blank_of(trainer))).all()
    values = {key: float(value) for step in trainer._steps for key, value in step.items()}
    assert is_kept.float().mean() == pytest.approx(values["mask_kept"], abs=0.01)
    assert is_kept.all() == (base is APGATrainerNone)
    assert values["mask_skipped"] == 0
    keys = {key for panel in trainer.panels if panel.reduction is not None for key in panel.keys}
    assert {key for key in keys if key.startswith("mask_")} <= set(values) <= keys
    assert values["mask_aided_loss"] == values["mask_aided_loss"]


def test_who_is_trained_by_which_step(begin):
    """The policy's step leaves the network alone, and the network's steps the policy."""
    trainer = begin(APGATrainer)
    agent, batch = trainer.agents["mask"], random_batch(trainer)
    network_parameters = {id(parameter) for parameter in trainer.network.parameters()}
    assert not any(id(parameter) in network_parameters for parameter in agent.policy.parameters())
    before_network, before_policy = weights(trainer.module), weights(agent.policy)
    agent.learn(trainer.describe_step(batch, 0.0)[0])
    assert are_equal(before_network, weights(trainer.module))
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert not are_equal(before_policy, weights(agent.policy))
    learnt = weights(agent.policy)
    trainer._train_on_aided(batch)
    assert not are_equal(before_network, weights(trainer.module))
    assert are_equal(learnt, weights(agent.policy))
    assert trainer.network.training


def test_before_its_time_training_is_that_of_nnunet(begin):
    trainer = begin(APGATrainer, MaskConfig(pretrained_share=0.5))
    recorder = Recorder(trainer)
    before = weights(trainer.agents["mask"].policy)
    trainer.train_step(random_batch(trainer))
    assert recorder.steps == 1
    assert are_equal(before, weights(trainer.agents["mask"].policy))
    assert trainer._steps == [{}]
    trainer.current_epoch = trainer.num_epochs // 2
    trainer.on_train_epoch_start()
    trainer.train_step(random_batch(trainer))
    assert recorder.steps == 3


class Keeping:
    """Makes a mask source keep given shares of the samples."""

    def __init__(self, trainer, shares):
        size = trainer.configuration_manager.patch_size

        def keep(batch):
            data = batch["data"]
            masks = torch.zeros(len(data), len(shares[0]), *size, dtype=torch.bool)
            for sample, of_groups in enumerate(shares):
                for group, share in enumerate(of_groups):
                    masks[sample, group].view(-1)[: round(share * masks[0, 0].numel())] = True
            return masks

        trainer.agents["mask"].keep = keep


def test_aided_samples_that_keep_too_little_are_skipped(begin):
    trainer = begin(APGATrainerNone)
    recorder, batch = Recorder(trainer), random_batch(trainer)
    Keeping(trainer, [[0.01], [0.5]])
    trainer.train_step(batch)
    assert [len(data) for data in recorder.batches] == [2, 1]
    assert torch.equal(recorder.batches[1][0, :, 0], batch["data"][1, :, 0])
    assert trainer._steps[-1]["mask_skipped"] == 0.5
    Keeping(trainer, [[0.01], [0.0]])
    trainer.train_step(batch)
    assert recorder.steps == 3
    assert trainer._steps[-1]["mask_skipped"] == 1


def test_one_mask_per_branch_of_unpaired_data(begin):
    """A sample is skipped if one of its branches keeps too little; each branch's loss is that of the branch alone."""
    trainer = begin(APGARLXAlignTrainer)
    assert trainer.mask_groups() == ((0,), (1,))
    recorder, batch = Recorder(trainer), random_batch(trainer, matched=[True, False])
    Keeping(trainer, [[0.5, 0.25], [0.5, 0.0]])
    trainer.train_step(batch)
    aided = recorder.batches[1]
    assert len(aided) == 1
    assert [int((aided != blank_of(trainer))[0, c].sum()) / aided[0, 0].numel() for c in range(2)] == [0.5, 0.25]
    with torch.no_grad():
        losses = trainer.task_losses(batch)
        changed = batch["data"].clone()
        changed[0, 1] = torch.randn_like(changed[0, 1])
        after = trainer.task_losses({**batch, "data": changed})
    assert losses.shape == (2, 2)
    assert (after != losses).tolist() == [[False, True], [False, False]]


def test_a_fully_erased_branch_is_still_run(begin):
    trainer = begin(APGARLXAlignTrainer, MaskConfig(pretrained_share=0.0, smallest_kept=0.0))
    seen = []
    samples_per_branch = trainer.module.samples_per_branch

    def recording(x):
        result = samples_per_branch(x)
        if trainer.network.training:
            seen.append(result[1])
        return result

    trainer.module.samples_per_branch = recording
    Keeping(trainer, [[1.0, 0.0], [0.0, 1.0]])
    trainer.train_step(random_batch(trainer))
    assert seen == [[[0, 1], [0, 1]]] * 2


@pytest.mark.parametrize("base", [APGARLXAlignTrainer, MaskedIntraInter], ids=lambda base: base.__name__)
def test_rewards_move_nothing_of_the_task(begin, base):
    """No moving average, no report, no gradient, and the network goes on training."""
    trainer = begin(base)
    batch = random_batch(trainer)
    trainer.train_step(batch)
    before = weights(trainer.module), deepcopy(trainer.extra_state())
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.loss.report = "untouched"
    with torch.no_grad():
        trainer.task_losses(batch)
    assert are_equal(before[0], weights(trainer.module))
    assert str(before[1]) == str(trainer.extra_state())
    assert trainer.loss.report == "untouched"
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert trainer.network.training


def test_losses_of_samples_are_those_of_nnunet(begin):
    """With one sample, it is the loss of nnU-Net's own step."""
    trainer = begin(APGATrainer)
    batch = random_batch(trainer)
    with torch.no_grad():
        losses = trainer.task_losses(batch)
        for row in range(2):
            one = {"data": batch["data"][[row]], "target": [scale[[row]] for scale in batch["target"]]}
            trainer.network.eval()
            assert float(losses[row]) == pytest.approx(float(trainer.validation_step(one)["loss"]), rel=1e-5)
            trainer.network.train()


def test_plans_of_our_networks_end_in_a_sentence(begin, monkeypatch):
    monkeypatch.setattr("test_apga_trainer.as_stock", lambda plans: plans)
    with pytest.raises(SystemExit, match="Error: The plans IntraInterSmallPlans build IntraInterNet, but APGATrainer"):
        begin(APGATrainer)
