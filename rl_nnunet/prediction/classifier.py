"""Classify the cases of a folder with the checkpoints of a trained classifier.

A case takes nnU-Net's own way through reading and preprocessing; crop and size are those of the training.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor
from tqdm import tqdm

from rl_nnunet.dataloading.resize import resize
from rl_nnunet.dataloading.structure_box import StructureBox
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.class_probabilities import class_probabilities
from rl_nnunet.evaluation.subset_prediction import find_images
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.files import new_file
from rl_nnunet.grids import check_resampled
from rl_nnunet.label_maps import check_labels
from rl_nnunet.plans.classification import planned_crop
from rl_nnunet.scans import check_file, reading
from rl_nnunet.training.expected_classes import expecting_classes


@dataclass(frozen=True)
class Predictions:
    """Probabilities of some cases.

    Parameters
    ----------
    names : tuple of str
        Of the classes.
    folds : tuple of int or str
        Of the checkpoints.
    cases : dict of str to array
        (folds, classes) of each case.
    """

    names: tuple[str, ...]
    folds: tuple[int | str, ...]
    cases: Mapping[str, np.ndarray]


def classify_folder(
    model: TrainedModel,
    images: Path,
    segmentations: Path | None = None,
    *,
    device: str = "cuda",
    mirroring: bool = True,
    allow_tqdm: bool = True,
) -> Predictions:
    """Return the probabilities of all cases of a folder in nnU-Net's format.

    Parameters
    ----------
    model : TrainedModel
        A classifier.
    images : Path
        The folder; a channel that a case does not have is a file of zeros.
    segmentations : Path, optional
        Folder of the segmentations, for models that crop to the structure: whatever is not 0 is the structure.
    device : str
        ``cuda``, ``cpu`` or ``mps``.
    mirroring : bool
        Average over mirrored images.
    allow_tqdm : bool
        Show a progress bar.

    Raises
    ------
    InputError
        If the model is no classifier, or a file is missing or cannot be used.
    """
    model.check()
    ending = model.dataset_json["file_ending"]
    files = find_images(images, model.modalities, ending)
    with expecting_classes():
        predictor = model.load(device, 0.5, mirroring=mirroring)
    names = predictor.configuration_manager.network_arch_init_kwargs.get("class_names")
    if names is None:
        raise InputError(f"The model in {model.folder} segments and does not classify; correct -m, or -d and -tr.")
    box = StructureBox(
        planned_crop(predictor.configuration_manager.configuration), predictor.configuration_manager.spacing
    )
    masks = {} if box.is_whole else find_segmentations(segmentations, list(files), ending)
    axes = predictor.allowed_mirroring_axes if mirroring else None
    cases = {}
    for case in tqdm(files, desc="Classifying", disable=not allow_tqdm):
        cube = read_cube(predictor, files[case], masks.get(case), box)
        cases[case] = _probabilities_of_folds(predictor, cube[None], axes)
    return Predictions(tuple(names), tuple(model.folds), cases)


def find_segmentations(folder: Path | None, cases: Sequence[str], ending: str) -> dict[str, Path]:
    """Return the segmentation of each case.

    Raises
    ------
    InputError
        If there is no folder, or a case has none.
    """
    if folder is None:
        raise InputError(
            "The model sees the box around the structure, which has to be segmented first: give the folder of the "
            "segmentations with -s (of any model of nnU-Net)."
        )
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; correct -s.")
    found = {case: folder / f"{case}{ending}" for case in cases}
    missing = next((file for file in found.values() if not file.is_file()), None)
    if missing is not None:
        raise InputError(f"There is no {missing}; segment the case, or move its images elsewhere.")
    return found


def read_cube(
    predictor: nnUNetPredictor, images: Sequence[Path], segmentation: Path | None, box: StructureBox
) -> Tensor:
    """Return what the network sees of a case, (channels, *spatial).

    Raises
    ------
    InputError
        If a file cannot be read, they do not fit each other, or nothing is segmented.
    """
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    reader = plans.image_reader_writer_class()
    for file in images:
        check_file(file)
    together = f"{images[0]} and its other channels cannot be read, or differ in size or spacing; mend or remove them."
    with reading(images[0], together):
        image, properties = reader.read_images([str(file) for file in images])
    check_resampled(images[0], image.shape, properties["spacing"], plans, configuration)
    labels = None
    if segmentation is not None:
        check_file(segmentation)
        with reading(segmentation, f"{segmentation} is not a readable image; fetch it again."):
            labels = reader.read_seg(str(segmentation))[0]
        labels = check_labels(segmentation, labels)
        if labels.shape[1:] != image.shape[1:]:
            raise InputError(
                f"{segmentation} has {_size(labels.shape[1:])} voxels, its images {_size(image.shape[1:])}; check that "
                "they belong together."
            )
        if not (labels > 0).any():
            raise InputError(
                f"{segmentation} is empty, so that there is no box around the structure; mend it, or remove the case."
            )
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, labels, _ = preprocessor.run_case_npy(image, labels, properties, plans, configuration, predictor.dataset_json)
    lower, upper = box.of_mask(labels[0] > 0)
    crop = torch.from_numpy(crop_and_pad_nd(data, [list(edges) for edges in zip(lower, upper, strict=True)], 0)).float()
    size = configuration.patch_size
    return resize(crop[:, 0] if len(size) == 2 else crop, size)


def _probabilities_of_folds(predictor: nnUNetPredictor, x: Tensor, axes: Sequence[int] | None) -> np.ndarray:
    found = []
    for weights in predictor.list_of_parameters:
        predictor.network.load_state_dict(weights)
        network = predictor.network.to(predictor.device).eval()
        found.append(class_probabilities(network, x.to(predictor.device), axes)[0].cpu().numpy())
    return np.stack(found)


def write_predictions(file: Path, predictions: Predictions) -> None:
    """Write a row a case: the most probable class, the mean probabilities of the folds, and those of each fold."""
    of_folds = [f"fold_{fold}_{name}" for fold in predictions.folds for name in predictions.names]
    file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["case", "prediction", *(f"probability_{name}" for name in predictions.names), *of_folds])
        for case, values in predictions.cases.items():
            mean = values.mean(0)
            shown = [f"{value:.6f}" for value in (*mean, *values.ravel())]
            table.writerow([case, predictions.names[int(mean.argmax())], *shown])


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
