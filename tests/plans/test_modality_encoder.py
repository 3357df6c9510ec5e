"""The modalities' encoders are as large as the time allows, counted as nnU-Net counts feature maps."""

import pytest
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from rl_nnunet.plans import modality_encoder as module
from rl_nnunet.plans.modality_encoder import modality_encoder

ARCHITECTURE = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 64],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 2, 2]],
    "n_blocks_per_stage": [1, 3, 4, 6],
    "n_conv_per_stage_decoder": [1, 1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PATCH = [16, 32, 32]
SHALLOW = {"n_blocks_per_stage": [1] * 4}
CHOICES = [
    {},
    SHALLOW,
    {**SHALLOW, "features_per_stage": [4, 16, 32, 64]},
    {**SHALLOW, "features_per_stage": [4, 8, 16, 32]},
]


def test_one_modality_has_the_planned_encoder_and_more_have_ever_smaller_ones():
    chosen = [CHOICES.index(modality_encoder(ARCHITECTURE, modalities, PATCH)) for modalities in (1, 2, 3, 4, 8)]
    assert chosen[0] == 0
    assert chosen == sorted(chosen)
    assert chosen[-1] == 3


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_largest_that_is_affordable(modalities, monkeypatch):
    """Against the count of nnU-Net's own networks, of which decoder and, but for its stem, encoder are taken apart."""
    arguments = {**ARCHITECTURE, "conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}

    def count(encoders, **changes):
        whole, smaller = (ResidualEncoderUNet(1, num_classes=1, **{**arguments, **c}) for c in ({}, changes))
        decoder = whole.decoder.compute_conv_feature_map_size(PATCH)
        features, voxels, joined = smaller.encoder.output_channels, 16 * 32 * 32, 0
        for size, stride in zip(features, (1, 8, 4, 8), strict=True):
            voxels //= stride
            joined += encoders * size * voxels
        return encoders * smaller.encoder.compute_conv_feature_map_size(PATCH) + joined * (encoders > 1) + decoder

    ratios = [count(modalities, **change) / count(1) for change in CHOICES]
    assert ratios == sorted(ratios, reverse=True)
    for limit in [(low + high) / 2 for high, low in zip(ratios, ratios[1:], strict=False)]:
        monkeypatch.setattr(module, "MAX_COST", limit)
        expected = next(change for change, ratio in zip(CHOICES, ratios, strict=True) if ratio <= limit)
        assert modality_encoder(ARCHITECTURE, modalities, PATCH) == expected


def test_a_transformer_stays_as_it_is():
    arguments = {**ARCHITECTURE, "swin_blocks_per_stage": [1, 2, 2, 2]}
    del arguments["n_blocks_per_stage"]
    assert modality_encoder(arguments, 4, PATCH) == {}
