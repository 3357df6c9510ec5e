"""The environment variables that nnU-Net reads: what they must be for it to find the trainers and the data.

nnU-Net looks for a trainer that it does not know itself in the folders of ``nnUNet_extTrainer``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAINERS_VARIABLE = "nnUNet_extTrainer"
SEED_VARIABLE = "RL_NNUNET_SEED"
DATA_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def trainers_folder() -> Path:
    """Return the folder of ``rl_nnunet.trainers``, found without importing it: that would import torch and nnU-Net."""
    spec = importlib.util.find_spec("rl_nnunet.trainers")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("rl_nnunet.trainers is not installed: install rl_nnunet anew with pip.")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def exports(environment: Mapping[str, str], root: Path | None = None) -> dict[str, str]:
    """Return the variables to export.

    Parameters
    ----------
    environment : mapping of str to str
        The environment so far. Folders that ``nnUNet_extTrainer`` already names stay, and stay in front.
    root : Path, optional
        Folder in which nnU-Net's three data folders are placed, as far as they are not set yet.

    Raises
    ------
    InputError
        If the root cannot be a folder.
    """
    ours = trainers_folder()
    folders = [folder for folder in environment.get(TRAINERS_VARIABLE, "").split(os.pathsep) if folder.strip()]
    # Absolute names only: the current folder may be gone, and a relative one is another in the next shell.
    if ours not in (Path(folder).resolve() for folder in folders if os.path.isabs(folder)):
        folders.append(str(ours))
    variables = {TRAINERS_VARIABLE: os.pathsep.join(folders)}
    if root is not None:
        base = root.absolute()
        not_folder = next((place for place in (base, *base.parents) if place.exists() and not place.is_dir()), None)
        if not_folder is not None:
            raise InputError(f"--root {root}: {not_folder} is a file; name the folder that is to hold nnU-Net's.")
        if not is_text(str(base)):
            raise InputError(f"--root {root} is not valid UTF-8, which the image libraries need; rename the folder.")
        variables.update({name: str(base / name) for name in DATA_VARIABLES if not environment.get(name, "").strip()})
    return variables


def is_text(name: str) -> bool:
    """Tell whether a file name is valid UTF-8; ITK ends the whole process on others."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def data_folder(variable: str) -> Path:
    """Return one of nnU-Net's data folders, which need not exist yet.

    Parameters
    ----------
    variable : str
        One of `DATA_VARIABLES`.

    Raises
    ------
    InputError
        If the variable is not set, or names something that nnU-Net cannot use.
    """
    text = os.environ.get(variable, "")
    if not text.strip():
        raise InputError(f'{variable} is not set: export it, or run eval "$(rl_nnunet_env --root FOLDER)".')
    if text.startswith("~"):
        raise InputError(
            f"{variable}={text} names a folder called {Path(text).parts[0]}, because nnU-Net does not expand it; "
            "export it without quotes, or written out."
        )
    if not is_text(text):
        raise InputError(f"{variable}={text} is not valid UTF-8, which the image libraries need; rename the folder.")
    try:
        folder = Path(os.path.abspath(text))
    except FileNotFoundError:
        raise InputError("The current folder does not exist any more; change to another one.") from None
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{variable}={text} is not a folder; export the folder that holds your data sets.")
    return folder
