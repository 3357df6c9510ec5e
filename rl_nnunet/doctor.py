"""What ``rl_nnunet_env --check`` looks at: versions, GPU, folders, trainers, and variables that trap nnU-Net."""

from __future__ import annotations

import ast
import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rl_nnunet import __version__
from rl_nnunet.environment import DATA_VARIABLES, TRAINERS_VARIABLE, data_folder, trainers_folder
from rl_nnunet.errors import InputError

ALWAYS_LISTED = ("nnunetv2", "torch", "torchvision")
OLDEST_PYTHON = (3, 10)
LITTLE_SPACE_GB = 20
"""A preprocessed data set of a few hundred cases, or the checkpoints of a few models."""
READ_ONLY_IS_ENOUGH = "nnUNet_raw"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    status : {"OK", "NOTE", "PROBLEM"}
        How it is.
    subject : str
        What was looked at.
    found : str
        What was found.
    remedy : str
        What to do, where something is to be done and `found` does not say it.
    """

    status: Literal["OK", "NOTE", "PROBLEM"]
    subject: str
    found: str
    remedy: str = ""


def check_all() -> list[Finding]:
    """Return the findings, in the order in which they are to be read."""
    findings = [_check_python(), *_check_packages(), *_check_torch()]
    findings += [_check_folder(variable) for variable in DATA_VARIABLES]
    return [*findings, _check_trainers_variable(), _check_trainers(), *_check_variables()]


def print_report(findings: list[Finding]) -> bool:
    """Print the findings as a table; return whether there is no problem."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.status:<8} {finding.subject:<{width}}  {finding.found}")
        if finding.remedy:
            print(f"{'':<8} {'':<{width}}  -> {finding.remedy}")
    problems = sum(finding.status == "PROBLEM" for finding in findings)
    print(f"\n{problems} problem{'s' * (problems != 1)}." if problems else "\nNo problem.")
    return not problems


def _check_python() -> Finding:
    good = tuple(map(int, platform.python_version_tuple()[:2])) >= OLDEST_PYTHON
    remedy = "" if good else f"make a virtual environment with Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    return Finding("OK" if good else "PROBLEM", "python", platform.python_version(), remedy)


def _check_packages() -> Iterator[Finding]:
    """Compare what is installed with what rl_nnunet requires."""
    from packaging.requirements import Requirement

    yield Finding("OK", "rl_nnunet", __version__)
    for requirement in map(Requirement, metadata.requires("rl_nnunet") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding("PROBLEM", requirement.name, "not installed", f'pip install "{requirement}"')
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{version}, but {requirement.specifier} is needed"
            yield Finding("PROBLEM", requirement.name, wanted, f'pip install "{requirement}"')
        elif requirement.name in ALWAYS_LISTED:
            yield Finding("OK", requirement.name, version)


def _check_torch() -> Iterator[Finding]:
    """Import torch and torchvision, whose builds have to match, and look for a GPU."""
    torch = _import("torch")
    if isinstance(torch, Finding):
        yield torch
        return
    torchvision = _import("torchvision")
    yield torchvision if isinstance(torchvision, Finding) else Finding("OK", "torch and torchvision", "match")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield Finding("OK", "GPU", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")
    else:
        yield Finding(
            "NOTE", "GPU", "none that torch can use", "needed for training on real data; use -device cpu without one"
        )


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build that does not match fails in many ways
        said = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(
            "PROBLEM",
            name,
            f"cannot be imported: {said}",
            "install builds that match, both from one index: pip install --force-reinstall torch torchvision",
        )


def _check_folder(variable: str) -> Finding:
    """Look at one of nnU-Net's folders, or, if it does not exist yet, at where it will be."""
    try:
        folder = data_folder(variable)
    except InputError as error:
        return Finding("PROBLEM", variable, str(error).removeprefix(f"{variable} "))
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    place = f"{folder} ({_describe_disk(existing)})"
    if not os.access(existing, os.W_OK | os.X_OK):
        needed = folder != existing or variable != READ_ONLY_IS_ENOUGH
        found = f"{place} cannot be written" + ("" if folder == existing else f", as {existing} is read-only")
        remedy = "export another folder, or change its permissions" if needed else "enough, except for converting data"
        return Finding("PROBLEM" if needed else "NOTE", variable, found, remedy)
    if shutil.disk_usage(existing).free < LITTLE_SPACE_GB * 1e9:
        return Finding("NOTE", variable, place, "little space: preprocessed data and checkpoints take many GB")
    if folder != existing:
        return Finding("NOTE", variable, f"{place} does not exist yet", "nothing to do: it is made when it is needed")
    return Finding("OK", variable, place)


def _describe_disk(folder: Path) -> str:
    """Return the file system of a folder and its free space."""
    kind = ""
    mounts = Path("/proc/mounts")
    if mounts.is_file():
        entries = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
        # The innermost mount; of several on one place, the last is what one sees. Blanks are written as \040.
        inside = [
            (len(entry[1]), number, entry[2])
            for number, entry in enumerate(entries)
            if folder.resolve().is_relative_to(entry[1].replace("\\040", " "))
        ]
        kind = f"{max(inside)[2]}, " if inside else ""
    return f"{kind}{shutil.disk_usage(folder).free / 1e9:.0f} GB free"


def _check_trainers_variable() -> Finding:
    value = os.environ.get(TRAINERS_VARIABLE, "")
    folders = [Path(folder) for folder in value.split(os.pathsep) if folder.strip()]
    if not any(folder.exists() and folder.samefile(trainers_folder()) for folder in folders):
        found = f"does not name {trainers_folder()}" if folders else "is not set"
        return Finding("PROBLEM", TRAINERS_VARIABLE, found, 'eval "$(rl_nnunet_env)"')
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        return Finding("NOTE", TRAINERS_VARIABLE, f"names {missing[0]}, which is no folder", "take it out")
    return Finding("OK", TRAINERS_VARIABLE, value)


def _check_trainers() -> Finding:
    """List the trainers by reading their modules: importing them takes nnU-Net's search half a minute."""
    names = [
        node.name
        for module in sorted(trainers_folder().glob("*.py"))
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and "Trainer" in node.name
    ]
    if not names:
        return Finding("PROBLEM", "trainers", f"none in {trainers_folder()}", "install rl_nnunet anew with pip")
    return Finding(
        "OK", "trainers", f"{', '.join(sorted(names))}; each with _20epochs, AdamW and so on behind its name"
    )


def _check_variables() -> Iterator[Finding]:
    """Look at the variables that nnU-Net takes for numbers."""
    for name, least in (("nnUNet_n_proc_DA", 0), ("nnUNet_def_n_proc", 1)):
        value = os.environ.get(name)
        if value is None:
            continue
        text = value.strip()
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            yield Finding("PROBLEM", name, f"{value!r} is not a number of processes", f"unset {name}")
        elif int(text) == 0:
            yield Finding("NOTE", name, "0 is for training only", f"unset {name} for planning, which refuses it")
