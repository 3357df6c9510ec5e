"""Segment what ``nnUNetv2_predict`` takes, and what it cannot: missing files, DICOM, several scans of a patient.

For what the stock command takes, the segmentations are its own, voxel by voxel: each step is a call of nnU-Net's.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from rl_nnunet.branches import channel_indices, layout_from_dataset_json, recorded_orientation
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.trained_model import TrainedModel
from rl_nnunet.files import new_file
from rl_nnunet.locks import one_run_at_a_time
from rl_nnunet.prediction.agreement import agreement_of
from rl_nnunet.prediction.companions import CompanionPredictor
from rl_nnunet.prediction.input_files import CaseFiles, find_case_files, single_case
from rl_nnunet.prediction.left_out import LeftOut
from rl_nnunet.prediction.patients import Grouping, Patient, Target, plan_patients
from rl_nnunet.prediction.pipeline import PROBABILITY_ENDINGS, Export, Pipeline, Workers, start_workers, unfinished_name
from rl_nnunet.prediction.preprocessing import Preprocessing
from rl_nnunet.prediction.progress import Progress
from rl_nnunet.prediction.scan_reader import PlansOfScans


@dataclass(frozen=True)
class PredictionSettings:
    """How to predict.

    Parameters
    ----------
    pairing : {"auto", "physical", "relative", "none"}
        How the place in another scan of the patient is found.
    step_size : float
        Step of the sliding window, in patches.
    mirroring : bool
        Average over mirrored images.
    device : str
        ``cuda``, ``cpu`` or ``mps``.
    on_device : bool
        Keep the whole prediction on the GPU.
    save_probabilities : bool
        Also write probabilities, as ensembles need them.
    existing : {"refuse", "keep", "replace"}
        What to do with segmentations that are there.
    processes : tuple of int
        Of preprocessing and export.
    previous : Path or None
        Folder of the segmentations of the previous stage of a cascade.
    part, parts : int
        Which part of the cases, of how many.
    allow_tqdm : bool
        Whether to show a bar over the cases.
    verbose : bool
        nnU-Net's.
    """

    pairing: str = "auto"
    step_size: float = 0.5
    mirroring: bool = True
    device: str = "cuda"
    on_device: bool = True
    save_probabilities: bool = False
    existing: str = "refuse"
    processes: tuple[int, int] = (3, 3)
    previous: Path | None = None
    part: int = 0
    parts: int = 1
    allow_tqdm: bool = True
    verbose: bool = False


def find_cases(model: TrainedModel, images: Path, modality: str | None) -> list[CaseFiles]:
    """Return the cases of a folder or, with a modality, the case of one scan."""
    if modality is not None:
        return [single_case(images, modality, model.modalities, layout_from_dataset_json(model.dataset_json))]
    return find_case_files(images, model.modalities, model.dataset_json["file_ending"])


def predict_cases(
    model: TrainedModel, cases: Sequence[CaseFiles], output: Path, settings: PredictionSettings | None = None
) -> int:
    """Segment cases; return the number of segmentations.

    Parameters
    ----------
    model : TrainedModel
        The model.
    cases : sequence of CaseFiles
        See `find_cases`.
    output : Path
        Folder for the segmentations, which need not exist.
    settings : PredictionSettings, optional
        How to predict.

    Raises
    ------
    InputError
        If the model cannot be used or, after all other cases are done, if a case cannot.
    """
    settings = settings or PredictionSettings()
    with start_workers(settings.processes) as workers:
        return _predict_cases(model, cases, output, settings, workers)


def _predict_cases(
    model: TrainedModel, cases: Sequence[CaseFiles], output: Path, settings: PredictionSettings, workers: Workers
) -> int:
    predictor = _load(model, settings)
    by_windows = hasattr(predictor.network, "forward_branches")
    grouping = _grouping(model, settings.pairing, by_windows)
    patients = plan_patients(cases, grouping, output)
    patients = patients[settings.part :: settings.parts]
    orientation = recorded_orientation(model.dataset_json) if grouping.knows_grids else None
    preprocessing = Preprocessing(
        PlansOfScans(predictor.plans_manager.plans, orientation),
        predictor.configuration_manager,
        predictor.dataset_json,
        len(model.modalities),
        by_windows,
        settings.verbose,
    )
    export = Export(preprocessing, settings.save_probabilities)
    targets = _targets_to_do(patients, export.endings, settings.existing)
    for folder in dict.fromkeys([output, *(target.output.parent for target in targets)]):
        _prepare(folder, model)
    branches = predictor.network.branches if by_windows else ()
    progress = Progress(patients, targets, allow_tqdm=settings.allow_tqdm)
    left_out = LeftOut(predictor.network, model.modalities)
    pipeline = Pipeline(predictor, preprocessing, export, settings.processes, workers, branches, progress, left_out)
    try:
        pipeline.run(targets, lambda target: _previous(target, output, settings, model))
        _note_agreements(progress, patients, model.dataset_json["file_ending"])
    finally:
        progress.stop()
        print(progress.table(), flush=True)
        _remove_unfinished(patients, model.dataset_json["file_ending"])
    _raise_failures(progress.reasons())
    return len(targets)


def _load(model: TrainedModel, settings: PredictionSettings) -> CompanionPredictor:
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells what it sets on a CPU
        predictor = CompanionPredictor(
            tile_step_size=settings.step_size,
            use_mirroring=settings.mirroring,
            perform_everything_on_device=settings.on_device,
            device=torch.device(settings.device),
            verbose=settings.verbose,
            verbose_preprocessing=settings.verbose,
            allow_tqdm=False,  # a bar over the windows of each scan; ours is over the cases
        )
    model.load_into(predictor)
    configuration = predictor.configuration_manager
    if "class_names" in configuration.network_arch_init_kwargs:
        raise InputError(f"The model in {model.folder} classifies and does not segment; use rl_nnunet_classify.")
    stage = configuration.previous_stage_name
    if (stage is None) != (settings.previous is None):
        raise InputError(
            f"{model.folder} is no second stage of a cascade; leave -prev_stage_predictions out."
            if stage is None
            else f"{model.folder} is the second stage of a cascade; predict with {stage} first, and give the folder of "
            "its segmentations with -prev_stage_predictions."
        )
    return predictor


def _grouping(model: TrainedModel, pairing: str, by_windows: bool) -> Grouping:
    layout = layout_from_dataset_json(model.dataset_json)
    branches = {branch.name: branch.channels for branch in layout.branches}
    channels = {name: (index,) for name, index in channel_indices(model.dataset_json).items()}
    # Other readers of nnU-Net's do not say where a scan lies, or turn it.
    knows_grids = model.plans.image_reader_writer_class is SimpleITKIO
    return Grouping(branches if by_windows else channels, pairing, knows_grids)


def _targets_to_do(patients: Sequence[Patient], endings: Sequence[str], existing: str) -> list[Target]:
    """Return the scans that are to be segmented, given what to do with segmentations that are there."""
    targets = [target for patient in patients for target in patient.targets]
    there = [target for target in targets if all(os.path.exists(f"{target.output}{ending}") for ending in endings)]
    if existing == "refuse":
        refuse_to_replace(f"{target.output}{endings[-1]}" for target in targets)
    if existing != "keep":
        return targets
    done = {target.output for target in there}
    return [target for target in targets if target.output not in done]


def refuse_to_replace(files: Iterable[Path | str]) -> None:
    """Raise `InputError` if one of the segmentations is there."""
    found = next((file for file in files if os.path.lexists(file)), None)
    if found is not None:
        raise InputError(
            f"{found} exists already; add --overwrite to replace it, --continue_prediction to go on with what is "
            "missing, or choose another folder."
        )


def _prepare(folder: Path, model: TrainedModel) -> None:
    """Make a folder, with the two files that nnU-Net's commands look for beside segmentations."""
    contents = {"dataset.json": model.dataset_json, "plans.json": model.plans.plans}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_run_at_a_time(folder):  # the parts of a prediction share it
            for name, content in contents.items():
                with new_file(folder / name) as file:
                    save_json(content, str(file), sort_keys=False)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}); free space, mend the permissions, or choose "
            "another folder."
        ) from None


def _note_agreements(progress: Progress, patients: Sequence[Patient], ending: str) -> None:
    """Compare the segmentations of each patient's scans, as far as all of them are there."""
    reasons = progress.reasons()
    for patient in (patient for patient in patients if patient.name not in reasons):
        with contextlib.suppress(InputError):  # of a segmentation that another run has left, nothing can be said
            progress.note_agreement(patient, agreement_of(patient, ending))


def _remove_unfinished(patients: Sequence[Patient], ending: str) -> None:
    """Remove what a killed run left of the cases; that of cases which are there by now is not written again."""
    for target in (target for patient in patients for target in patient.targets):
        for of_file in (*PROBABILITY_ENDINGS, ending):
            Path(f"{unfinished_name(target.output)}{of_file}").unlink(missing_ok=True)


def _previous(target: Target, output: Path, settings: PredictionSettings, model: TrainedModel) -> Path | None:
    if settings.previous is None:
        return None
    return settings.previous / f"{target.output.relative_to(output)}{model.dataset_json['file_ending']}"


def _raise_failures(reasons: Mapping[str, str]) -> None:
    """Raise `InputError` if a case is not segmented: the sentence on the first one, and which others are not."""
    if reasons:
        first, *others = reasons
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise InputError(reasons[first] + (f" (Not segmented, too: {len(others)} more, {names}.)" if others else ""))
