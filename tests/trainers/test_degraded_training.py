"""The trainers with an encoder per modality on degraded samples."""

import pytest
import torch
from torch.nn import functional

from rl_nnunet.trainers.intra_inter_ablations import IntraInterTrainerNoAgents, IntraInterTrainerSelection
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer

CONFIGURATION = ("configurations", "3d_fullres")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_network_is_trained_on_degraded_samples_as_the_plans_say(start, share):
    trainer = start(IntraInterTrainer, [("plans", (*CONFIGURATION, "modality_degradation"), share)])
    trainer.on_train_epoch_start()
    patch = trainer.configuration_manager.patch_size
    target = torch.randint(0, 8, (2, 1, *patch)).float()
    scales = trainer._get_deep_supervision_scales()
    scaled = [functional.interpolate(target, [round(p * s) for p, s in zip(patch, scale, strict=True)]).short()
              for scale in scales]  # fmt: skip
    batch, seen = {"data": torch.randn(2, 2, *patch), "target": scaled, "keys": ["a", "b"]}, []
    with trainer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        trainer.train_step(batch)
    assert (seen[0] != batch["data"]).flatten(2).any(2).sum(1).tolist() == [int(share)] * 2


def test_only_the_selection_agent_trains_on_degraded_samples_by_itself():
    assert IntraInterTrainerSelection.settings.degradation == 0.5
    assert IntraInterTrainer.settings.degradation == IntraInterTrainerNoAgents.settings.degradation == 0.0
