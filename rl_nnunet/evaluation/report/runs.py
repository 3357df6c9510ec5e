"""What is reported on: the predictions of a trained model's validation, or of a folder, each with its reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.branches import BranchLayout, layout_from_dataset_json, read_dataset_json
from rl_nnunet.errors import InputError

DATASET_JSON = "dataset.json"
VALIDATION = "validation"


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `images` holds those channels, by their index, of which there is a file."""

    name: str
    prediction: Path
    reference: Path
    images: dict[int, Path]


@dataclass(frozen=True)
class Run:
    """The predictions of one model, and what is needed to judge them.

    Parameters
    ----------
    name : str
        What it is called in tables.
    source : Path
        Folder of the model or of the predictions.
    cases : tuple of CaseFiles
        The cases.
    unpredicted : int
        Number of references without a prediction; 0 for a model, whose folds each predict a part of them.
    structures : dict
        The labels or regions that nnU-Net evaluates, by their names.
    ignore_label : int or None
        The label whose voxels are not evaluated.
    reader : object
        nnU-Net's reader.
    layout : BranchLayout
        The branches.
    folds : tuple of Path
        Folders of the trained folds; none of predictions.
    """

    name: str
    source: Path
    cases: tuple[CaseFiles, ...]
    unpredicted: int
    structures: dict[str, int | tuple[int, ...]]
    ignore_label: int | None
    reader: Any
    layout: BranchLayout
    folds: tuple[Path, ...]


@dataclass(frozen=True)
class Places:
    """Where a run's files lie, as far as the user says so; else they are looked for where nnU-Net puts them."""

    references: Path | None = None
    images: Path | None = None
    dataset_json: Path | None = None
    folds: Sequence[int | str] | None = None


def find_runs(folders: Sequence[Path], places: Places) -> list[Run]:
    """Find the files of runs, and name each by its trainer, or by more of its path where that is not enough.

    Raises
    ------
    InputError
        If something is missing, a folder is named twice, or the runs have different structures.
    """
    if len(set(folders)) < len(folders):
        raise InputError("One folder is named twice; name different ones.")
    whole = [_without_fold(folder) or folder for folder in folders]
    candidates = (
        [folder.name.split("__")[0] for folder in whole],
        [folder.name for folder in whole],
        [str(folder) for folder in folders],
    )
    names = next(names for names in candidates if len(set(names)) == len(names))
    runs = [find_run(folder, name, places) for folder, name in zip(folders, names, strict=True)]
    for run in runs[1:]:
        if run.structures != runs[0].structures:
            raise InputError(
                f"{runs[0].source} has the structures {', '.join(runs[0].structures)}, {run.source} "
                f"{', '.join(run.structures)}, with their label values; compare runs of one data set."
            )
    return runs


def find_run(folder: Path, name: str, places: Places) -> Run:
    """Find the files of a run.

    Parameters
    ----------
    folder : Path
        Of a trained model (``TRAINER__PLANS__CONFIGURATION``), one of its folds, or predictions.
    name : str
        What the run is called.
    places : Places
        See there.

    Raises
    ------
    InputError
        If something is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name that of a trained model, or that of predictions.")
    model, folds = _model_and_folds(folder, places.folds)
    folders = [fold / VALIDATION for fold in folds] if model else [folder]
    description_file = places.dataset_json or (model or folder) / DATASET_JSON
    if not description_file.is_file():
        raise InputError(f"{description_file} is missing; name the data set's dataset.json with -djfile.")
    description = read_dataset_json(description_file)
    structures, ignore_label = _structures(description, description_file)
    ending = _text(description, "file_ending", description_file)
    references = places.references or _references_of(model, folder)
    images = places.images or _images_of(model)
    cases = _cases(folders, references, images, ending)
    there = {path.name for path in references.iterdir() if path.name.endswith(ending)}
    return Run(
        name,
        folder,
        tuple(cases),
        0 if model else len(there) - len(cases),
        structures,
        ignore_label,
        determine_reader_writer_from_dataset_json(description, verbose=False)(),
        layout_from_dataset_json(description),
        tuple(folds),
    )


def _model_and_folds(folder: Path, wanted: Sequence[int | str] | None) -> tuple[Path | None, list[Path]]:
    """Return the folder of the model that a folder belongs to, if it does, and those of its folds."""
    model = _without_fold(folder)
    if model is not None:
        fold = folder.parent if folder.name == VALIDATION else folder
        if wanted is not None:
            raise InputError(f"{folder} is one fold already; leave out -f, or name the folder of the model.")
        _check_validated(fold)
        return model, [fold]
    if wanted is None:
        validated = sorted(path.parent for path in folder.glob(f"fold_*/{VALIDATION}"))
        if not validated and any(folder.glob("fold_*")):
            raise InputError(f"No fold of {folder} has a folder {VALIDATION}; run nnUNetv2_train with --val first.")
        return (folder, validated) if validated else (None, [])
    chosen = [folder / f"fold_{fold}" for fold in wanted]
    for fold in chosen:
        _check_validated(fold)
    return folder, chosen


def _without_fold(folder: Path) -> Path | None:
    """Return the folder of the model that a fold or its validation belongs to; None if a folder is neither."""
    fold = folder.parent if folder.name == VALIDATION else folder
    return fold.parent if fold.name.startswith("fold_") else None


def _check_validated(fold: Path) -> None:
    if not (fold / VALIDATION).is_dir():
        raise InputError(f"{fold / VALIDATION} is missing; run nnUNetv2_train with --val, or choose folds with -f.")


def _references_of(model: Path | None, folder: Path) -> Path:
    """Return the folder of references that nnU-Net has of a model's data set."""
    if model is None:
        raise InputError(f"{folder} is not of a trained model; name the folder of its references with -r.")
    places = [
        Path(os.environ.get("nnUNet_preprocessed", ""), model.parent.name, "gt_segmentations"),
        Path(os.environ.get("nnUNet_raw", ""), model.parent.name, "labelsTr"),
    ]
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"The references of {model.parent.name} are neither in {places[0]} nor in {places[1]}; name their folder "
        "with -r, or set nnU-Net's variables."
    )


def _images_of(model: Path | None) -> Path | None:
    place = Path(os.environ.get("nnUNet_raw", ""), model.parent.name, "imagesTr") if model else None
    return place if place is not None and place.is_dir() else None


def _cases(folders: Sequence[Path], references: Path, images: Path | None, ending: str) -> list[CaseFiles]:
    """Return the cases of all predictions in some folders."""
    for option, place in (("-r", references), ("-i", images)):
        if place is not None and not place.is_dir():
            raise InputError(f"{option} {place} is no folder; correct it.")
    # The names in a folder are read once, not per case.
    channels: dict[str, dict[int, Path]] = {}
    for path in sorted(images.iterdir()) if images else []:
        case, _, channel = path.name.removesuffix(ending).rpartition("_")
        if path.name.endswith(ending) and len(channel) == 4 and channel.isdecimal():
            channels.setdefault(case, {})[int(channel)] = path
    cases: dict[str, CaseFiles] = {}
    for prediction in (path for folder in folders for path in sorted(folder.iterdir())):
        if not prediction.name.endswith(ending) or prediction.name.startswith("."):
            continue
        case, reference = prediction.name.removesuffix(ending), references / prediction.name
        if not reference.is_file():
            raise InputError(f"{prediction} has no reference {reference}; correct -r, or remove the prediction.")
        if case in cases:
            raise InputError(f"{prediction} and {cases[case].prediction} are of one case; choose folds with -f.")
        cases[case] = CaseFiles(case, prediction, reference, channels.get(case, {}))
    if not cases:
        raise InputError(f"{folders[0]} holds no predictions that end in {ending}; correct the folder.")
    return [cases[name] for name in sorted(cases)]


def _structures(description: dict[str, Any], file: Path) -> tuple[dict[str, int | tuple[int, ...]], int | None]:
    """Return what nnU-Net evaluates, by its names, and the ignore label."""
    labels = description.get("labels")
    try:
        manager = LabelManager(labels, description.get("regions_class_order"))
        names = {_key(value): name for name, value in labels.items() if name != "ignore"}
        evaluated = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        structures = {names[_key(value)]: value for value in evaluated}
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'{file} has "labels" that nnU-Net does not take ({error}); mend them.') from None
    if not structures:
        raise InputError(f"{file} names no label but the background; add those that are to be evaluated.")
    return structures, manager.ignore_label


def _key(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (int(value),)


def _text(description: dict[str, Any], key: str, file: Path) -> str:
    value = description.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f'{file} has no "{key}"; add it, as nnU-Net\'s own have it.')
    return value
