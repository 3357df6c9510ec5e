"""A model folder of nnU-Net: what is known of it before the network is built, and nnU-Net's predictor for it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors import SafetensorError

from rl_nnunet.branches import channel_indices, read_dataset_json
from rl_nnunet.environment import data_folder
from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.exported_model import DESCRIPTION_FILE, WEIGHTS_FILE, is_exported, load_exported
from rl_nnunet.label_maps import label_values

ALL_FOLDS = (0, 1, 2, 3, 4)
FINAL_CHECKPOINT = "checkpoint_final.pth"
LOAD_ERRORS = (
    RuntimeError,
    LookupError,
    EOFError,
    TypeError,
    ValueError,
    AssertionError,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What a checkpoint that is damaged, of another network or of a trainer that is not there can come to."""
CHUNK = 2**20


def model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    """Return the folder of a model below ``nnUNet_results``, as ``nnUNetv2_predict`` finds it.

    Raises
    ------
    InputError
        If ``nnUNet_results`` is not set, or there is no such data set.
    """
    data_folder("nnUNet_results")
    try:
        return Path(get_output_folder(dataset, trainer, plans, configuration))
    except (RuntimeError, ValueError):
        raise InputError(
            f"-d {dataset}: there is not exactly one data set of this name or ID in nnU-Net's folders; correct it, or "
            "name the folder of the model with -m."
        ) from None


@dataclass(frozen=True)
class TrainedModel:
    """Checkpoints of one model folder.

    Parameters
    ----------
    folder : Path
        nnU-Net's model folder, ``TRAINER__PLANS__CONFIGURATION``, or one that ``rl_nnunet_export_model`` wrote.
    folds : sequence of int or str
        The folds whose predictions are averaged.
    checkpoint : str
        Name of the checkpoint in each fold's folder; an exported model has one a fold.
    """

    folder: Path
    folds: Sequence[int | str] = ALL_FOLDS
    checkpoint: str = FINAL_CHECKPOINT

    def check(self) -> None:
        """Raise `InputError` if a file is missing that prediction needs."""
        for name in ("dataset.json", "plans.json"):
            if not (self.folder / name).is_file():
                raise InputError(
                    f"{self.folder} has no {name} and is no folder of a trained model; correct -m, or -d, -tr, -p and "
                    "-c, which name TRAINER__PLANS__CONFIGURATION in nnUNet_results."
                )
        for file in self.checkpoints:
            if not file.is_file():
                there = sorted(path.parent.name for path in self.folder.glob(f"fold_*/{file.name}"))
                raise InputError(
                    f"There is no checkpoint {file}; -f takes the folds that are trained ("
                    f"{', '.join(there) or 'none'}), and -chk the name of the checkpoint."
                )

    @property
    def checkpoints(self) -> list[Path]:
        """The files of the checkpoints."""
        name = WEIGHTS_FILE if is_exported(self.folder) else self.checkpoint
        return [self.folder / f"fold_{fold}" / name for fold in self.folds]

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """The content of ``dataset.json``."""
        return read_dataset_json(self.folder / "dataset.json")

    @cached_property
    def plans(self) -> PlansManager:
        """The plans."""
        return PlansManager(read_dataset_json(self.folder / "plans.json"))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the channels, in nnU-Net's order."""
        return tuple(channel_indices(self.dataset_json))

    @cached_property
    def labels(self) -> dict[str, int | tuple[int, ...]]:
        """What nnU-Net's evaluation looks at, regions if there are some and labels if not, by their names."""
        manager = self.plans.get_label_manager(self.dataset_json)
        evaluated = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        names = {tuple(np.atleast_1d(value)): name for name, value in self.dataset_json["labels"].items()}
        return {names[tuple(np.atleast_1d(value))]: value for value in evaluated}

    @property
    def ignore_label(self) -> int | None:
        """The label whose voxels are not evaluated."""
        return self.plans.get_label_manager(self.dataset_json).ignore_label

    @property
    def label_values(self) -> set[int]:
        """The values that a label map may have."""
        return label_values(self.labels.values(), self.ignore_label)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file on which predictions depend, by its path in the model folder."""
        files = [self.folder / "dataset.json", self.folder / "plans.json", *self.checkpoints]
        if is_exported(self.folder):
            files.append(self.folder / DESCRIPTION_FILE)
        return {file.relative_to(self.folder).as_posix(): _sha256(file) for file in files}

    def load(self, device: str, step_size: float, *, mirroring: bool) -> nnUNetPredictor:
        """Build the network and load the weights.

        Parameters
        ----------
        device : str
            ``cuda``, ``cpu`` or ``mps``.
        step_size : float
            Step of the sliding window, in patches.
        mirroring : bool
            Average over mirrored images.

        Raises
        ------
        InputError
            If it cannot be loaded.
        """
        # nnU-Net tells what it sets on a CPU.
        with contextlib.redirect_stdout(io.StringIO()):
            predictor = nnUNetPredictor(
                tile_step_size=step_size, use_mirroring=mirroring, device=torch.device(device), allow_tqdm=False
            )
        self.load_into(predictor)
        previous = predictor.configuration_manager.previous_stage_name
        if previous is not None:
            raise InputError(
                f"{self.folder} is the second stage of a cascade, after {previous}, which is not supported; evaluate "
                "another configuration."
            )
        return predictor

    def load_into(self, predictor: nnUNetPredictor) -> None:
        """Build the network of a predictor and load the weights.

        Raises
        ------
        InputError
            If it cannot be loaded.
        """
        try:
            # nnU-Net tells where it looks for trainers.
            with contextlib.redirect_stdout(io.StringIO()):
                if is_exported(self.folder):
                    load_exported(self.folder, self.folds, predictor)
                else:
                    predictor.initialize_from_trained_model_folder(str(self.folder), list(self.folds), self.checkpoint)
        except LOAD_ERRORS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f'The model in {self.folder} cannot be loaded ("{reason}"); copy or train it anew, and see that '
                "nnUNet_extTrainer names the folder of its trainer."
            ) from None


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
