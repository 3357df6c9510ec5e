"""What tests of started trainers share: edits of plans and data sets, stock plans, and the form of a refusal."""

from dataclasses import fields

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


def as_stock(plans):
    """Return the plans for nnU-Net's own network."""
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    own = {field.name for field in fields(Backbone) if not field.name.startswith(("swin", "n_conv_per_stage_e"))}
    arguments = {name: value for name, value in architecture["arch_kwargs"].items() if name in own}
    architecture["arch_kwargs"] = arguments
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    return plans
