"""Which file is which channel of which case; a missing file is a missing channel.

A folder is in nnU-Net's format, ``CASE_0000.nii.gz``, but need not be complete. In the place of a file, there may be a
folder with a DICOM series, ``CASE_0000/``. What is wrong with one case does not stop the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rl_nnunet.branches import BranchLayout
from rl_nnunet.errors import InputError

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class CaseFiles:
    """What is there of one case.

    Parameters
    ----------
    name : str
        The case.
    channels : dict of int to Path
        The file, or the folder of a DICOM series, of each channel that is there.
    error : str
        The sentence if the case cannot be used.
    """

    name: str
    channels: Mapping[int, Path] = field(default_factory=dict)
    error: str = ""


def find_case_files(folder: Path, modalities: Sequence[str], ending: str) -> list[CaseFiles]:
    """Return the cases of a folder, in nnU-Net's order.

    Parameters
    ----------
    folder : Path
        The folder.
    modalities : sequence of str
        Names of the channels.
    ending : str
        Of the model's files.

    Raises
    ------
    InputError
        If there is no folder, or no case in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; correct -i, or add --modality if it is a file.")
    cases: dict[str, CaseFiles] = {}
    for path in sorted(folder.iterdir()):
        stem = path.name.removesuffix(ending)
        named = CHANNEL.fullmatch(stem)
        if path.name.startswith(".") or (path.is_dir() and not named) or (not path.is_dir() and stem == path.name):
            continue
        if not named:
            cases[stem] = CaseFiles(
                stem, error=f"{path} has no channel in its name, as in {stem}_0000{ending}; rename it."
            )
            continue
        name = named["case"]
        cases[name] = _add(cases.get(name, CaseFiles(name)), int(named["channel"]), path, modalities)
    if not cases:
        raise InputError(
            f"{folder} holds no case; -i is a folder of files like CASE_0000{ending}, or of folders like CASE_0000 "
            "with a DICOM series each, or one scan with --modality."
        )
    return [cases[name] for name in sorted(cases)]


def _add(case: CaseFiles, channel: int, path: Path, modalities: Sequence[str]) -> CaseFiles:
    if channel >= len(modalities):
        known = ", ".join(f"{index:04d} {name}" for index, name in enumerate(modalities))
        return replace(case, error=f"{path} is a channel that the model does not have ({known}); rename or remove it.")
    if channel in case.channels:
        return replace(case, error=f"{case.channels[channel]} and {path} are one channel; remove one.")
    return replace(case, channels={**case.channels, channel: path})


def single_case(path: Path, modality: str, modalities: Sequence[str], layout: BranchLayout) -> CaseFiles:
    """Return the case of one scan.

    Parameters
    ----------
    path : Path
        Its file, or the folder of its DICOM series.
    modality : str
        What it is: the name of a channel, or of a branch with one channel.
    modalities : sequence of str
        Names of the channels.
    layout : BranchLayout
        The model's branches.

    Raises
    ------
    InputError
        If there is no such file or modality.
    """
    if not path.exists():
        raise InputError(f"There is no {path}; correct -i.")
    channels = {branch.name: branch.channels[0] for branch in layout.branches if len(branch.channels) == 1}
    channels |= {name: index for index, name in enumerate(modalities)}
    if modality not in channels:
        raise InputError(f"--modality {modality}: the model knows {', '.join(channels)} only; correct it.")
    name = path.name if path.is_dir() else re.sub(r"(\.nii\.gz|\.[^.]+)$", "", path.name)
    named = CHANNEL.fullmatch(name)
    return CaseFiles(named["case"] if named else name, {channels[modality]: path})
