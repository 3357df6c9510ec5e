"""Predict and evaluate every subset of the modalities of each case, without files for the absent ones.

Images are read once, with nnU-Net's reader. For a subset, the other channels are set to 0 in the *raw* image, which
then takes nnU-Net's own way from preprocessing to the segmentation on the image's grid. Preprocessing once and setting
channels of the result to 0 would be faster and wrong: nnU-Net crops to the voxels that are not 0 in some channel, and
normalizes over what is left, so that both change with the subset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder
from tqdm import tqdm

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.subset_results import CaseCounts, ResultsFolder, count_table
from rl_nnunet.evaluation.subsets import all_subsets, subset_name
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.files import new_file
from rl_nnunet.grids import check_resampled
from rl_nnunet.label_maps import check_labels
from rl_nnunet.locks import only_run_in
from rl_nnunet.presence.cases import constant_value
from rl_nnunet.scans import check_file, reading


@dataclass(frozen=True)
class Case:
    """One case on disk: its name, a file per channel, and the reference segmentation."""

    name: str
    images: tuple[Path, ...]
    reference: Path

    def files(self) -> dict[str, list[float]]:
        """Return the size and time of modification (s) of each file, by its name."""
        states = {f"{file.parent.name}/{file.name}": file.stat() for file in (*self.images, self.reference)}
        return {name: [state.st_size, state.st_mtime] for name, state in states.items()}


def find_cases(images: Path, references: Path, modalities: Sequence[str], ending: str) -> list[Case]:
    """Return the cases of a folder in nnU-Net's format.

    Raises
    ------
    InputError
        If there are none, or one lacks a channel's file or its reference.
    """
    found = find_images(images, modalities, ending)
    if not references.is_dir():
        raise InputError(f"There is no folder {references}; correct -r.")
    for name in found:
        if not (references / f"{name}{ending}").is_file():
            raise InputError(f"{references} holds no {name}{ending}; add the reference, or move the images elsewhere.")
    return [Case(name, files, references / f"{name}{ending}") for name, files in found.items()]


def find_images(images: Path, modalities: Sequence[str], ending: str) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case of a folder in nnU-Net's format, one a channel.

    Raises
    ------
    InputError
        If there are none, or one lacks a channel's file.
    """
    if not images.is_dir():
        raise InputError(f"There is no folder {images}; correct -i.")
    names = [str(name) for name in get_identifiers_from_splitted_dataset_folder(str(images), ending)]
    if not names:
        raise InputError(f"{images} holds no {ending} file; -i is a folder of images, such as imagesTs.")
    found = {}
    for name in names:
        files = tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(len(modalities)))
        for modality, file in zip(modalities, files, strict=True):
            if not file.is_file():
                raise InputError(
                    f"There is no {file}, the {modality} of this case; where the case has none, write an image of "
                    "zeros with the geometry of the others."
                )
        surplus = images / f"{name}_{len(modalities):04d}{ending}"
        if surplus.exists():
            raise InputError(f"{surplus} is a channel that the model does not have; correct -i, or the model.")
        found[name] = files
    return found


class SubsetPredictor:
    """Predicts cases from some of their modalities.

    Parameters
    ----------
    model : TrainedModel
        The model; it is loaded once, when it is needed.
    device : str
        ``cuda``, ``cpu`` or ``mps``.
    step_size : float
        Step of the sliding window, in patches.
    mirroring : bool
        Average over mirrored images, as nnU-Net does by default.
    """

    def __init__(self, model: TrainedModel, device: str, step_size: float, *, mirroring: bool) -> None:
        self.model = model
        self.options = {"device": device, "step_size": step_size, "mirroring": mirroring}

    @cached_property
    def predictor(self) -> nnUNetPredictor:
        """nnU-Net's predictor."""
        return self.model.load(**self.options)

    @cached_property
    def reader(self) -> Any:
        """nnU-Net's reader of the model's data set."""
        return self.model.plans.image_reader_writer_class()

    def read(self, case: Case) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
        """Return the image (channels, z, y, x), its properties, and the reference (z, y, x).

        Raises
        ------
        InputError
            If nnU-Net's reader cannot read them, or they do not fit each other.
        """
        for file in (*case.images, case.reference):
            check_file(file)
        together = (
            f"The images of {case.name} in {case.images[0].parent} cannot be read, or differ in size or spacing; mend "
            "or remove them."
        )
        with reading(case.images[0], together):
            image, properties = self.reader.read_images([str(file) for file in case.images])
        with reading(case.reference, f"{case.reference} is not a readable image; fetch it again."):
            reference = self.reader.read_seg(str(case.reference))[0][0]
        reference = check_labels(case.reference, reference, self.model.label_values)
        if reference.shape != image.shape[1:]:
            raise InputError(
                f"{case.reference} has {_size(reference.shape)} voxels, its images {_size(image.shape[1:])}; check "
                "that they belong together."
            )
        return image, properties, reference

    def predict(self, image: np.ndarray, properties: dict[str, Any], subset: Sequence[str]) -> np.ndarray:
        """Return the segmentation (z, y, x) from the modalities of a subset."""
        absent = [index for index, name in enumerate(self.model.modalities) if name not in subset]
        image = image.copy()
        image[absent] = 0
        # nnU-Net writes into the properties where it has cropped.
        return self.predictor.predict_single_npy_array(image, deepcopy(properties))

    def check_resampled(self, case: Case, image: np.ndarray, properties: dict[str, Any]) -> None:
        """Raise `InputError` if nnU-Net's resampling cannot take an image."""
        how = self.predictor
        check_resampled(
            case.images[0], image.shape, properties["spacing"], how.plans_manager, how.configuration_manager
        )

    def count(self, reference: np.ndarray, prediction: np.ndarray) -> dict[str, list[int]]:
        """Return true positive, false positive and false negative voxels of each label, as nnU-Net counts them."""
        ignored = None if self.model.ignore_label is None else reference == self.model.ignore_label
        return {
            name: [
                int(number)
                for number in compute_tp_fp_fn_tn(
                    region_or_label_to_mask(reference, label), region_or_label_to_mask(prediction, label), ignored
                )[:3]
            ]
            for name, label in self.model.labels.items()
        }

    def write(self, prediction: np.ndarray, properties: dict[str, Any], target: Path) -> None:
        """Write a segmentation as nnU-Net does."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_file(target) as file:
            self.reader.write_seg(prediction, str(file), properties)


def evaluate_subsets(
    model: TrainedModel,
    images: Path,
    references: Path,
    output: Path,
    *,
    device: str = "cuda",
    step_size: float = 0.5,
    mirroring: bool = True,
    save_predictions: bool = False,
    overwrite: bool = False,
    allow_tqdm: bool = True,
) -> pd.DataFrame:
    """Predict every case from every subset of its modalities, and count voxels.

    A subset of which a case has only some modalities, because the image of the others has one value everywhere, is the
    subset of those that it has: each is predicted once. Where a case has none of them, it has no result.

        counts = evaluate_subsets(TrainedModel(folder, ("all",)), images, labels, output, device="cpu")
        dice = dice_per_case(counts, "field", {"enhancing_tumor": 500})

    Parameters
    ----------
    model : TrainedModel
        The model.
    images, references : Path
        Folders in nnU-Net's format, such as ``imagesTs`` and ``labelsTs``.
    output : Path
        Where results are kept after each prediction. A run on what a killed one left goes on there.
    device : str
        ``cuda``, ``cpu`` or ``mps``.
    step_size : float
        Step of the sliding window, in patches.
    mirroring : bool
        Average over mirrored images, as nnU-Net does by default.
    save_predictions : bool
        Also write the segmentations.
    overwrite : bool
        Replace what an earlier run wrote.
    allow_tqdm : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        Counts as `rl_nnunet.evaluation.subsets` and `write_report` take them.

    Raises
    ------
    InputError
        If something cannot be used, or the output folder holds results of something else.
    """
    model.check()
    cases = find_cases(images, references, model.modalities, model.dataset_json["file_ending"])
    settings = {
        "model": model.hashes(),
        "prediction": {"step_size": step_size, "mirroring": mirroring},
        "cases": {case.name: case.files() for case in cases},
    }
    predictor = SubsetPredictor(model, device, step_size, mirroring=mirroring)
    output.mkdir(parents=True, exist_ok=True)
    with only_run_in(output, f"Another run is writing {output}; wait for it to end, or choose another folder."):
        results = ResultsFolder(output, settings, model.dataset_json["file_ending"])
        results.prepare(overwrite=overwrite)
        known = {}
        subsets = all_subsets(model.modalities)
        with tqdm(total=len(cases) * len(subsets), desc="Subsets", disable=not allow_tqdm) as progress:
            for case in cases:
                known[case.name] = results.read(case.name) or CaseCounts(())
                for done in _evaluate_case(predictor, case, known[case.name], results, save=save_predictions):
                    progress.update(done)
    return count_table(known, model.modalities)


def _evaluate_case(
    predictor: SubsetPredictor, case: Case, known: CaseCounts, results: ResultsFolder, *, save: bool
) -> Iterator[int]:
    """Predict what is not known of a case yet; yield how many subsets are done with each step."""
    subsets = all_subsets(predictor.model.modalities)
    loaded = None
    if not known.present:
        loaded = image, _, _ = predictor.read(case)
        names = zip(predictor.model.modalities, image, strict=True)
        known.present = tuple(name for name, channel in names if constant_value(channel) is None)
        if not known.present:
            raise InputError(f"{case.images[0]} and its other channels have one value everywhere; remove the case.")
    equal: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for subset in subsets:
        equal.setdefault(known.of_subset(subset), []).append(subset)
    yield len(equal.pop((), ()))
    for present, group in equal.items():
        targets = [results.prediction_file(subset, case.name) for subset in group] if save else []
        if subset_name(present) not in known.counts or not all(target.is_file() for target in targets):
            loaded = image, properties, reference = loaded or predictor.read(case)
            predictor.check_resampled(case, image, properties)
            prediction = predictor.predict(image, properties, present)
            for target in targets:
                predictor.write(prediction, properties, target)
            known.counts[subset_name(present)] = predictor.count(reference, prediction)
            results.write(case.name, known)
        yield len(group)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
