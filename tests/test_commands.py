"""Every command answers --help at once, which it cannot if it imports torch or nnU-Net to do so."""

import os
import shlex
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from rl_nnunet.environment import exports, trainers_folder
from rl_nnunet.environment_command import main

COMMANDS = sorted(
    {
        entry.name: entry for entry in entry_points(group="console_scripts") if entry.value.startswith("rl_nnunet.")
    }.items()
)


@pytest.mark.parametrize("entry", [entry for _, entry in COMMANDS], ids=[name for name, _ in COMMANDS])
def test_help_answers_in_under_a_second(entry, tmp_path):
    script = Path(sys.executable).with_name(entry.name)
    # The best of three: other processes of the machine may delay one of them.
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([script, "--help"], capture_output=True, text=True, cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith(f"usage: {entry.name}")
    assert min(seconds) < 1


def test_there_are_commands():
    assert "rl_nnunet_env" in dict(COMMANDS)


def test_env_names_the_folder_of_the_trainers():
    assert exports({}) == {"nnUNet_extTrainer": str(trainers_folder())}
    assert (trainers_folder() / "__init__.py").is_file()


def test_env_keeps_what_is_set_and_adds_ours_once():
    others = os.pathsep.join(("/one", "/two"))
    once = exports({"nnUNet_extTrainer": others})
    assert once == {"nnUNet_extTrainer": os.pathsep.join((others, str(trainers_folder())))}
    assert exports(once) == once


def test_env_places_the_folders_that_are_not_set(tmp_path):
    root = tmp_path / "new"
    variables = exports({"nnUNet_raw": "/elsewhere"}, root)
    assert "nnUNet_raw" not in variables
    assert variables["nnUNet_preprocessed"] == str(root / "nnUNet_preprocessed")
    assert variables["nnUNet_results"] == str(root / "nnUNet_results")
    assert not root.exists()


def test_env_prints_what_a_shell_can_evaluate(tmp_path, capsys):
    root = tmp_path / "it's $HOME"
    main(["--root", str(root)])
    script = capsys.readouterr().out + 'printf %s "$nnUNet_raw"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == str(root / "nnUNet_raw")


def test_env_does_not_import_nnunet(tmp_path):
    script = (
        "import sys; from rl_nnunet.environment_command import main; main([]); "
        "print(sorted({'torch', 'nnunetv2'} & set(sys.modules)))"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    run = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
