"""What tests of started trainers share: edits of plans and data, batches, stock plans, and the form of a refusal."""

from dataclasses import fields

import torch
from torch.nn import functional

from rl_nnunet.networks.backbone import Backbone
from rl_nnunet.plans.intra_inter_net import IntraInterNetPlan

AGENTS_NETWORK = IntraInterNetPlan.network_class
DELETE = object()
"""The value of an edit that takes an entry out."""


def assert_one_sentence(caught, *fragments):
    sentence = caught.value.code
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    for fragment in fragments:
        assert fragment in sentence


def random_batch(trainer, shown=(), targets=2):
    """Return two samples of noise, with entries that say what their branches show."""
    patch = trainer.configuration_manager.patch_size
    target = torch.randint(0, 8, (2, targets, *patch)).float()
    scales = trainer._get_deep_supervision_scales()
    scaled = [functional.interpolate(target, [round(p * s) for p, s in zip(patch, scale, strict=True)]).short()
              for scale in scales]  # fmt: skip
    return {"data": torch.randn(2, 2, *patch), "target": scaled, "keys": {"CT": [], "MRI": []}, **dict(shown)}


def as_stock(plans):
    """Return the plans for nnU-Net's own network."""
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    own = {field.name for field in fields(Backbone) if not field.name.startswith(("swin", "n_conv_per_stage_e"))}
    arguments = {name: value for name, value in architecture["arch_kwargs"].items() if name in own}
    architecture["arch_kwargs"] = arguments
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    return plans
