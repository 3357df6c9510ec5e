"""What has to hold of a data set in nnU-Net's raw format, before anything is computed from it.

nnU-Net finds most of this by itself, too: in a traceback, some of them after an hour of work, or from a worker process.
Only names and ``dataset.json`` are read here; the images are looked at by the fingerprint extractor.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rl_nnunet.branches import channel_indices, layout_from_dataset_json, read_dataset_json
from rl_nnunet.environment import is_text
from rl_nnunet.errors import InputError

REQUIRED_KEYS = ("labels", "channel_names", "numTraining", "file_ending")


def check_raw_data(folder: Path) -> dict[str, Any]:
    """Check ``dataset.json`` and that every case has the files it must have.

    Parameters
    ----------
    folder : Path
        The data set in ``nnUNet_raw``.

    Returns
    -------
    dict
        The content of ``dataset.json``.

    Raises
    ------
    InputError
        If nnU-Net could not work with it.
    """
    dataset_json = read_dataset_json(folder / "dataset.json")
    try:
        _check_keys(dataset_json)
        layout_from_dataset_json(dataset_json)
        _check_labels(dataset_json["labels"], dataset_json.get("regions_class_order"))
    except InputError as error:
        # What is said of a dataset.json must say of which one.
        raise InputError(f"{folder / 'dataset.json'}: {str(error).removeprefix('dataset.json: ')}") from None
    channels = len(channel_indices(dataset_json))
    if "dataset" in dataset_json:
        cases = _listed_cases(folder, dataset_json["dataset"], channels)
    else:
        cases = _cases_in_folders(folder, dataset_json["file_ending"], channels)
    if cases != dataset_json["numTraining"]:
        print(
            f'Notice: {folder / "dataset.json"} says "numTraining": {dataset_json["numTraining"]}, but there are '
            f"{cases} cases; nnU-Net limits the batch size by this number: correct it."
        )
    return dataset_json


def _check_keys(dataset_json: dict[str, Any]) -> None:
    missing = [key for key in REQUIRED_KEYS if key not in dataset_json]
    if "modality" in dataset_json and "channel_names" in missing:  # its old name, which nnU-Net still reads
        missing.remove("channel_names")
    if missing:
        raise InputError(f"lacks {' and '.join(missing)}; nnU-Net needs {', '.join(REQUIRED_KEYS)}.")
    count, ending = dataset_json["numTraining"], dataset_json["file_ending"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f'"numTraining" must be the number of training cases, not {count!r}.')
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES

    known = sorted({known for reader in LIST_OF_IO_CLASSES for known in reader.supported_file_endings})
    if not isinstance(ending, str) or ending.lower() not in known:
        raise InputError(f'"file_ending" must be one that nnU-Net reads ({", ".join(known)}), not {ending!r}.')


def _check_labels(labels: Any, regions_class_order: Any) -> None:
    """Refuse labels that are not name and number, or that nnU-Net does not accept."""

    def is_label(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if not isinstance(labels, dict):
        raise InputError(f'"labels" must give each label\'s number by its name, not {labels!r}.')
    for name, value in labels.items():
        if not (is_label(value) or isinstance(value, list) and value and all(map(is_label, value))):
            raise InputError(f'the label {name!r} of "labels" must be a whole number or a list of them, not {value!r}.')
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    try:
        manager = LabelManager(labels, regions_class_order=regions_class_order)
        known = [*manager.all_labels, *([manager.ignore_label] if manager.has_ignore_label else ())]
        classes = manager.num_segmentation_heads
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'"labels" cannot be used by nnU-Net ("{_in_one_line(error)}"); correct them.') from None
    if known != list(range(len(known))):
        raise InputError(f'"labels" must be numbered 0, 1, 2, ... without gaps, not {", ".join(map(str, known))}.')
    if not manager.has_regions and len(set(map(str, labels.values()))) < len(labels):
        raise InputError('"labels" gives one number to two names; remove one of them.')
    if classes < 1 or len(known) < 2:
        raise InputError('"labels" has nothing but background; there must be something to segment.')


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _listed_cases(folder: Path, listed: Any, channels: int) -> int:
    """Return the number of cases of ``dataset.json``'s own list of files, all of which must be there."""
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    try:
        cases = get_filenames_of_train_images_and_targets(str(folder), {"dataset": json.loads(json.dumps(listed))})
        images = {name: [Path(image) for image in case["images"]] for name, case in cases.items()}
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f'{folder / "dataset.json"}: "dataset" must give "images" and "label" of each case by its name.'
        ) from None
    if not cases:
        raise InputError(f'{folder / "dataset.json"}: "dataset" lists no case; list some, or remove it.')
    for name, files in images.items():
        if len(files) != channels:
            raise InputError(
                f'{folder / "dataset.json"}: "dataset" lists {len(files)} images of the case {name}, which has '
                f"{channels} channels."
            )
        for file in (*files, Path(cases[name]["label"])):
            if not file.is_file():
                raise InputError(f'{file}, listed in {folder / "dataset.json"}, does not exist; correct "dataset".')
    return len(cases)


def _cases_in_folders(folder: Path, ending: str, channels: int) -> int:
    """Return the number of cases in ``imagesTr``, each of which must have all channels and a label."""
    found: dict[str, set[int]] = {}
    for file in _files(folder / "imagesTr", ending):
        match = re.fullmatch(r"(.+)_(\d{4})", file.name[: -len(ending)])
        if match is None:
            raise InputError(f"{file} is not named CASE_0000{ending}, with the channel's number; rename or remove it.")
        found.setdefault(match[1], set()).add(int(match[2]))
    if not found:
        raise InputError(
            f'{folder / "imagesTr"} holds no image CASE_0000{ending}; check "file_ending" in dataset.json, or convert '
            "the data set again."
        )
    labels = {file.name[: -len(ending)] for file in _files(folder / "labelsTr", ending)}
    for case, numbers in sorted(found.items()):
        missing, surplus = sorted(set(range(channels)) - numbers), sorted(numbers - set(range(channels)))
        if missing or surplus:
            problem = f"lacks {case}_{missing[0]:04d}{ending}" if missing else f"has {case}_{surplus[0]:04d}{ending}"
            raise InputError(
                f"{folder / 'imagesTr'} {problem}, but dataset.json names {channels} channels; each case needs one "
                "file a channel (filled with zeros where it has none)."
            )
    without = sorted(set(found) - labels)
    if without:
        raise InputError(
            f"{folder / 'labelsTr'} lacks the label of {len(without)} of {len(found)} cases, first "
            f"{without[0]}{ending}; add it, or remove the case's images."
        )
    return len(found)


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; a data set in nnU-Net's raw format has imagesTr and labelsTr.")
    files = sorted(file for file in folder.iterdir() if file.name.endswith(ending) and file.is_file())
    for file in files:
        if not is_text(file.name):
            raise InputError(f"{file} has a name that is not valid UTF-8, which the image libraries need; rename it.")
    return files
