"""Model folders with the networks of two branches, whose weights are drawn: they segment noise, but repeatably."""

import json

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from rl_nnunet.branches import blank_values

CT = {"mean": 100.0, "std": 50.0, "percentile_00_5": -100.0, "percentile_99_5": 300.0, "min": -100.0, "max": 300.0}
SCHEMES = ["CTNormalization", "ZScoreNormalization"]
PATCH, SPACING = [8, 12, 12], [3.0, 1.5, 1.5]
RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
RL_U2NET, INTRA_INTER, STOCK = (
    "rl_nnunet.networks.rl_u2net.RLU2Net",
    "rl_nnunet.networks.intra_inter_net.IntraInterNet",
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
)
INTENSITIES = {"0": {**CT, "median": 100.0}, "1": {**CT, "median": 100.0}}


def plans_of(network, dimension=3, transpose=(0, 1, 2)):
    """Return plans of one configuration, 2d or 3d_fullres."""
    arguments = {
        "n_stages": 2,
        "features_per_stage": [4, 6],
        "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": [[3] * dimension] * 2,
        "strides": [[1] * dimension, [2] * dimension],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    if network == RL_U2NET:
        values = blank_values(SCHEMES, INTENSITIES)
        arguments |= {"n_blocks_per_stage": [1, 1], "branches": [[0], [1]], "branch_names": ["CT", "MR"]}
        arguments |= {"blank_values": values, "aligned_stages": [1], "windows": [[2] * dimension]}
    elif network == INTRA_INTER:
        arguments |= {"n_blocks_per_stage": [1, 1], "modality_names": ["CT", "MR"], "blank_values": [0.0, 0.0]}
        arguments |= {"agents": ["selection"], "iterations": 0}
    else:
        arguments["n_conv_per_stage"] = [1, 1]
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": PATCH[-dimension:],
        "spacing": SPACING[-dimension:],
        "batch_size": 2,
        "batch_dice": False,
        "normalization_schemes": SCHEMES,
        "use_mask_for_norm": [False, False],
        "architecture": {
            "network_class_name": network,
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {**RESAMPLING, "is_seg": what == "seg"}
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "TinyPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "foreground_intensity_properties_per_channel": INTENSITIES,
        "configurations": {name_of(dimension): configuration},
    }


def name_of(dimension):
    return "2d" if dimension == 2 else "3d_fullres"


def dataset_json(**record):
    """Return the description of a data set; `record` is what the converter noted besides branches and pairing."""
    return {
        "channel_names": {"0": "CT", "1": "MR"},
        "labels": {"background": 0, "ventricle": 1, "myocardium": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "rl_nnunet": {"branches": {"CT": ["CT"], "MR": ["MR"]}, "pairing": "unpaired", **record},
    }


def network_of(plans, dimension=3, seed=0):
    """Return the network of plans, its weights drawn: all of them count."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    manager = PlansManager(plans)
    configuration = manager.get_configuration(name_of(dimension))
    network = nnUNetTrainer.build_network_architecture(manager, configuration, 2, 3, enable_deep_supervision=False)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def write_model(folder, network=RL_U2NET, dimension=3, folds=(0,), transpose=(0, 1, 2), **record):
    """Write a model folder of nnU-Net's."""
    plans = plans_of(network, dimension, transpose)
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset_json(**record)))
    for fold in folds:
        checkpoint = {
            "network_weights": network_of(plans, dimension, seed=fold).state_dict(),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": name_of(dimension)},
            "inference_allowed_mirroring_axes": tuple(range(dimension)),
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
