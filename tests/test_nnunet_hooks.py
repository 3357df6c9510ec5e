"""What this plugin relies on in nnU-Net. If a future version breaks it, this says which hook moved and what used it."""

import inspect
import pydoc
import re
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from packaging.specifiers import SpecifierSet

from rl_nnunet.dataloading.adjustable_augmentation import KNOBS, find_adjustments, stretch

CHECKOUT = Path(__file__).resolve().parent.parent
SUPPORTED = re.search(r'"nnunetv2([^"]+)"', (CHECKOUT / "setup.py").read_text()).group(1)


class Hook(NamedTuple):
    """A function of nnU-Net: where it is, its parameters (without ``self``), and what here relies on it."""

    owner: str
    function: str
    parameters: str
    used_by: str


TRAINER = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer"
LOADER = "nnunetv2.training.dataloading.data_loader.nnUNetDataLoader"
PLANNER = (
    "nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners.ResEncUNetPlanner"
)
TORCH_PLANNER = (
    "nnunetv2.experiment_planning.experiment_planners.resampling.resample_with_torch.nnUNetPlannerResEncL_torchres_sepz"
)
EXTRACTOR = "nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor.DatasetFingerprintExtractor"
PLANNING_API = "nnunetv2.experiment_planning.plan_and_preprocess_api"
LOGGERS = "nnunetv2.training.logging.nnunet_logger"
PREDICTOR = "nnunetv2.inference.predict_from_raw_data.nnUNetPredictor"
EVALUATION = "nnunetv2.evaluation.evaluate_predictions"

HOOKS = [
    Hook(TRAINER, "__init__", "plans configuration fold dataset_json device", "the trainers"),
    Hook(TRAINER, "initialize", "", "the trainers: agents and their optimizers"),
    Hook(TRAINER, "configure_optimizers", "", "the trainers: which parameters nnU-Net's optimizer gets"),
    Hook(TRAINER, "_do_i_compile", "", "IntraInterTrainer: it is not compiled"),
    Hook(TRAINER, "_build_loss", "", "the trainers: nnU-Net's Dice and CE per branch"),
    Hook(TRAINER, "get_dataloaders", "", "the trainers: unpaired batches"),
    Hook(
        TRAINER,
        "get_training_transforms",
        "patch_size rotation_for_DA deep_supervision_scales mirror_axes do_dummy_2d_data_aug use_mask_for_norm "
        "is_cascaded foreground_labels regions ignore_label",
        "the trainers: augmentation of each branch by itself",
    ),
    Hook(
        TRAINER,
        "get_validation_transforms",
        "deep_supervision_scales is_cascaded foreground_labels regions ignore_label",
        "the trainers: targets of each branch by itself",
    ),
    Hook(TRAINER, "get_tr_and_val_datasets", "", "the trainers: unpaired batches"),
    Hook(TRAINER, "configure_rotation_dummyDA_mirroring_and_inital_patch_size", "", "the trainers: augmentation"),
    Hook(TRAINER, "_get_deep_supervision_scales", "", "the trainers: deep supervision of each branch"),
    Hook(TRAINER, "train_step", "batch", "the trainers: segmentation and agents in one step"),
    Hook(TRAINER, "validation_step", "batch", "the trainers: online validation per branch"),
    Hook(TRAINER, "on_train_start", "", "the trainers: the random state of a resumed training"),
    Hook(
        TRAINER, "on_train_epoch_start", "", "the trainers: an epoch's steps; MaskedSteps: from when on there are masks"
    ),
    Hook(TRAINER, "on_validation_epoch_start", "", "the trainers: with several GPUs, a loss of this one's samples"),
    Hook(TRAINER, "on_train_epoch_end", "train_outputs", "the trainers: curves of the agents"),
    Hook(TRAINER, "on_validation_epoch_end", "val_outputs", "the trainers: Dice per branch"),
    Hook(TRAINER, "on_epoch_end", "", "the trainers: plots of the agents' curves"),
    Hook(TRAINER, "save_checkpoint", "filename", "the trainers: what else has to survive a restart"),
    Hook(TRAINER, "load_checkpoint", "filename_or_checkpoint", "the trainers: what else has to survive a restart"),
    Hook(TRAINER, "set_deep_supervision_enabled", "enabled", "the trainers: deep supervision of each branch"),
    Hook(TRAINER, "perform_actual_validation", "save_probabilities", "the trainers: validation per branch"),
    Hook(
        TRAINER,
        "build_network_architecture",
        "plans_manager configuration_manager num_input_channels num_output_channels enable_deep_supervision",
        "the trainers and stock prediction: the network learns of the branches",
    ),
    Hook(TRAINER, "do_split", "", "ClassificationTrainer: cases of the final validation"),
    Hook(
        LOADER,
        "__init__",
        "data batch_size patch_size final_patch_size label_manager oversample_foreground_percent "
        "sampling_probabilities pad_sides probabilistic_oversampling transforms",
        "rl_nnunet.dataloading: unpaired batches",
    ),
    Hook(
        LOADER,
        "get_bbox",
        "data_shape force_fg class_locations overwrite_class verbose",
        "rl_nnunet.dataloading: branches centered on one class; the box of a classifier",
    ),
    Hook(LOADER, "generate_train_batch", "", "rl_nnunet.dataloading: unpaired batches"),
    Hook(LOADER, "get_indices", "", "rl_nnunet.dataloading: companions from the same patient"),
    Hook(
        "batchgeneratorsv2.transforms.spatial.spatial.SpatialTransform",
        "get_parameters",
        "data_dict",
        "rl_nnunet.dataloading: scans of one patient are turned alike",
    ),
    Hook(
        "batchgeneratorsv2.transforms.spatial.spatial.SpatialTransform",
        "apply",
        "data_dict params",
        "rl_nnunet.dataloading: scans of one patient are turned alike",
    ),
    Hook(
        PLANNER,
        "__init__",
        "dataset_name_or_id gpu_memory_target_in_gb preprocessor_name plans_name overwrite_target_spacing "
        "suppress_transpose",
        "rl_nnunet.planners: name of the plans",
    ),
    Hook(
        PLANNER,
        "get_plans_for_configuration",
        "spacing median_shape data_identifier approximate_n_voxels_dataset _cache",
        "rl_nnunet.planners: network and patch size",
    ),
    Hook(
        PLANNER,
        "static_estimate_VRAM_usage",
        "patch_size input_channels output_channels arch_class_name arch_kwargs arch_kwargs_req_import",
        "rl_nnunet.planners: memory of a network with several branches",
    ),
    Hook(PLANNER, "generate_data_identifier", "configuration_name", "rl_nnunet.planners: folder of the data"),
    Hook(PLANNER, "determine_resampling", "args kwargs", "--fast_resampling"),
    Hook(PLANNER, "determine_segmentation_softmax_export_fn", "args kwargs", "--fast_resampling"),
    Hook(TORCH_PLANNER, "determine_resampling", "args kwargs", "--fast_resampling: functions and arguments"),
    Hook(
        TORCH_PLANNER,
        "determine_segmentation_softmax_export_fn",
        "args kwargs",
        "--fast_resampling: function and arguments",
    ),
    Hook(PLANNER, "save_plans", "plans", "rl_nnunet.planners: plans without the cascade"),
    Hook(
        "nnunetv2.experiment_planning.verify_dataset_integrity",
        "verify_dataset_integrity",
        "folder num_processes",
        "rl_nnunet_plan_and_preprocess --verify_dataset_integrity",
    ),
    Hook(
        "nnunetv2.utilities.utils",
        "get_filenames_of_train_images_and_targets",
        "raw_dataset_folder dataset_json",
        "rl_nnunet_plan_and_preprocess: files of the cases",
    ),
    Hook(EXTRACTOR, "__init__", "dataset_name_or_id num_processes verbose", "PresentChannelsFingerprintExtractor"),
    Hook(EXTRACTOR, "run", "overwrite_existing", "PresentChannelsFingerprintExtractor: one pass per branch"),
    Hook(
        PLANNING_API,
        "extract_fingerprint_dataset",
        "dataset_id fingerprint_extractor_class num_processes check_dataset_integrity clean verbose show_progress_bar",
        "rl_nnunet_plan_and_preprocess",
    ),
    Hook(
        PLANNING_API,
        "plan_experiment_dataset",
        "dataset_id experiment_planner_class gpu_memory_target_in_gb preprocess_class_name overwrite_target_spacing "
        "overwrite_plans_name",
        "rl_nnunet_plan_and_preprocess",
    ),
    Hook(
        PLANNING_API,
        "preprocess_dataset",
        "dataset_id plans_identifier configurations num_processes verbose show_progress_bar",
        "rl_nnunet_plan_and_preprocess",
    ),
    Hook(
        "nnunetv2.utilities.find_class_by_name",
        "recursive_find_python_class",
        "folder class_name current_module base_folder verbose cleanup_imports_from_base_folder",
        "rl_nnunet_plan_and_preprocess: planners by name",
    ),
    Hook(
        "nnunetv2.utilities.find_objects",
        "recursive_find_trainer_class_by_name",
        "trainer_name",
        "nnU-Net itself: how it finds the trainers",
    ),
    Hook(f"{LOGGERS}.MetaLogger", "log", "key value step", "the trainers: curves of the agents"),
    Hook(f"{LOGGERS}.LocalLogger", "log", "key value epoch", "the trainers: curves of the agents"),
    Hook(PREDICTOR, "predict_sliding_window_return_logits", "input_image", "validation per branch"),
    Hook(
        PREDICTOR,
        "initialize_from_trained_model_folder",
        "model_training_output_dir use_folds checkpoint_name",
        "prediction with a trained model",
    ),
    Hook(
        PREDICTOR,
        "predict_single_npy_array",
        "input_image image_properties segmentation_previous_stage output_file_truncated save_or_return_probabilities",
        "rl_nnunet_evaluate_subsets",
    ),
    Hook(
        PREDICTOR,
        "_internal_predict_sliding_window_return_logits",
        "data slicers do_on_device",
        "rl_nnunet_predict: windows of several scans in nnU-Net's loop",
    ),
    Hook(PREDICTOR, "predict_logits_from_preprocessed_data", "data", "rl_nnunet_predict"),
    Hook(
        "nnunetv2.inference.data_iterators",
        "preprocess_fromfiles_save_to_queue",
        "list_of_lists list_of_segs_from_prev_stage_files output_filenames_truncated plans_manager dataset_json "
        "configuration_manager target_queue done_event abort_event verbose",
        "rl_nnunet_predict: preprocessing",
    ),
    Hook(
        "nnunetv2.inference.export_prediction",
        "export_prediction_from_logits",
        "predicted_array_or_file properties_dict configuration_manager plans_manager dataset_json_dict_or_file "
        "output_file_truncated save_probabilities num_threads_torch",
        "rl_nnunet_predict: export",
    ),
    Hook(
        "nnunetv2.imageio.base_reader_writer.BaseReaderWriter",
        "read_images",
        "image_fnames",
        "rl_nnunet_predict: a reader around nnU-Net's",
    ),
    Hook(
        "nnunetv2.imageio.base_reader_writer.BaseReaderWriter",
        "write_seg",
        "seg output_fname properties",
        "rl_nnunet_predict: a reader around nnU-Net's",
    ),
    Hook(
        "nnunetv2.preprocessing.preprocessors.default_preprocessor.DefaultPreprocessor",
        "run_case_npy",
        "data seg properties plans_manager configuration_manager dataset_json",
        "rl_nnunet_classify: a case as training saw it",
    ),
    Hook(
        "nnunetv2.utilities.file_path_utilities",
        "get_output_folder",
        "dataset_name_or_id trainer_name plans_identifier configuration fold",
        "rl_nnunet_evaluate_subsets -d",
    ),
    Hook(
        "nnunetv2.utilities.utils",
        "get_identifiers_from_splitted_dataset_folder",
        "folder file_ending",
        "rl_nnunet_evaluate_subsets: names of the cases",
    ),
    Hook(
        "batchgeneratorsv2.transforms.noise.blank_rectangle.BlankRectangleTransform",
        "__init__",
        "rectangle_size rectangle_value num_rectangles force_square p_per_channel",
        "APGATrainerCutout",
    ),
    Hook(EVALUATION, "region_or_label_to_mask", "segmentation region_or_label", "rl_nnunet_evaluate_subsets"),
    Hook(EVALUATION, "compute_tp_fp_fn_tn", "mask_ref mask_pred ignore_mask", "rl_nnunet_evaluate_subsets"),
]


def moved(what, used_by):
    """Return the sentence for a hook that is not where it was."""
    return f"nnU-Net {version('nnunetv2')} moved {what}: used by {used_by}; supported range: nnunetv2{SUPPORTED}"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.owner.rpartition('.')[2]}.{hook.function}")
def test_hook_is_where_it_was(hook):
    what = f"{hook.owner.rpartition('.')[2]}.{hook.function}({', '.join(hook.parameters.split())})"
    function = getattr(pydoc.locate(hook.owner), hook.function, None)
    assert function is not None, moved(what, hook.used_by)
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    assert parameters == hook.parameters.split(), f"{moved(what, hook.used_by)}; parameters now: {parameters}"


def test_external_trainers_are_found_through_the_environment():
    from nnunetv2 import paths
    from nnunetv2.utilities import find_objects

    message = moved("nnUNet_extTrainer", "rl_nnunet_env")
    assert find_objects.nnUNet_extTrainer is paths.nnUNet_extTrainer, message
    assert paths.nnUNet_extTrainer.env_var_name == "nnUNet_extTrainer", message


def test_local_logger_takes_more_keys():
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    message = moved("LocalLogger.my_fantastic_logging", "the trainers: curves of the agents")
    logger = LocalLogger()
    assert isinstance(getattr(logger, "my_fantastic_logging", None), dict), message
    logger.my_fantastic_logging["rl_reward"] = []
    logger.log("rl_reward", 0.5, 0)
    assert logger.get_value("rl_reward", 0) == 0.5, message


@pytest.mark.parametrize("name", ["DC_and_CE_loss", "DC_and_BCE_loss"])
def test_terms_of_the_loss_have_weights_that_are_used(name):
    """Set to 0, the weight of a term takes the term out: RLXAlignTrainer has Dice and cross entropy each for itself."""
    from nnunetv2.training.loss import compound_losses

    loss_class = getattr(compound_losses, name)
    dice = {"batch_dice": True, "do_bg": True, "smooth": 1e-5, "ddp": False}
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 1, 4, 4))
    if name == "DC_and_BCE_loss":
        target = torch.randint(0, 2, (2, 3, 4, 4)).float()
    totals = []
    for dropped in ((), ("weight_ce",), ("weight_dice",)):
        loss = loss_class(*((dice, {}) if name == "DC_and_CE_loss" else ({}, dice)))
        for weight in ("weight_ce", "weight_dice"):
            assert getattr(loss, weight, None) == 1, moved(f"{name}.{weight}", "RLXAlignTrainer: one term alone")
        for weight in dropped:
            setattr(loss, weight, 0)
        totals.append(loss(logits, target))
    torch.testing.assert_close(totals[0], totals[1] + totals[2])


@pytest.mark.parametrize("name", KNOBS)
def test_knobs_of_the_augmentation_are_where_they_were(name):
    """Each transform that AugmentationPolicyTrainer adjusts is there once, with a probability and a range."""
    trainer = pydoc.locate(TRAINER)
    pipeline = trainer.get_training_transforms((8, 8, 8), (-0.5, 0.5), None, (0, 1, 2), False)
    knob = KNOBS[name]
    found = find_adjustments(pipeline).get(name, [])
    attributes = f"{knob.transform.__name__}.{knob.strength}, with {knob.probability or 'a RandomTransform around it'}"
    message = moved(f"{attributes} ({len(found)} found)", f"AugmentationPolicyTrainer: {name}")
    assert len(found) == 1, message
    assert 0 < found[0].probability < 1, message
    stretch(found[0].strength, knob.stretched, 2.0)


def test_plans_give_the_reader_to_those_who_read():
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    message = moved("PlansManager.image_reader_writer_class", "rl_nnunet_predict: a reader around nnU-Net's")
    assert isinstance(getattr(PlansManager, "image_reader_writer_class", None), property), message


def test_installed_version_is_supported():
    assert version("nnunetv2") in SpecifierSet(SUPPORTED)


def test_documentation_states_the_supported_versions():
    statements = {
        (file.name, stated)
        for file in [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]
        for stated in re.findall(r"nnunetv2\s*([<>=~!][\w.,<>=~!]*)", file.read_text())
    }
    assert ("installation.md", SUPPORTED) in statements
    assert {stated for _, stated in statements} == {SUPPORTED}
