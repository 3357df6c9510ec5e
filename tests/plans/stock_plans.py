"""Plans as nnU-Net's own planners write them, for networks of a few features."""

STOCK = "dynamic_network_architectures.architectures.unet."
CT = {"mean": 100.0, "std": 50.0, "percentile_00_5": 0.0, "percentile_99_5": 400.0}


def stock_plans(network="ResidualEncoderUNet", schemes=("CTNormalization", "ZScoreNormalization")):
    blocks = "n_blocks_per_stage" if network == "ResidualEncoderUNet" else "n_conv_per_stage"
    return {
        "plans_name": "nnUNetPlans",
        "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
        "configurations": {
            "3d_fullres": {
                "spacing": [3.0, 1.0, 1.0],
                "patch_size": [8, 16, 16],
                "batch_size": 2,
                "normalization_schemes": list(schemes),
                "architecture": {
                    "network_class_name": STOCK + network,
                    "arch_kwargs": {
                        "n_stages": 3,
                        "features_per_stage": [4, 6, 8],
                        "conv_op": "torch.nn.Conv3d",
                        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
                        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                        blocks: [1, 1, 1],
                        "n_conv_per_stage_decoder": [1, 1],
                        "conv_bias": True,
                        "norm_op": "torch.nn.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
                },
            },
            "3d_child": {"inherits_from": "3d_fullres", "batch_size": 4},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
