"""``rl_nnunet_env``: bad arguments print nothing that a shell would evaluate; ``--check`` says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rl_nnunet
from rl_nnunet import doctor
from rl_nnunet.environment import trainers_folder
from rl_nnunet.environment_command import main

COMMAND = Path(sys.executable).with_name("rl_nnunet_env")


@pytest.mark.parametrize(
    "arguments",
    [["--root"], ["--root", ""], ["--root", " "], ["--root", "~nosuchuser/x"], ["--root", __file__],
     ["--root", f"{__file__}/x/y"], ["--root", "x", "--check"], ["x"], ["--roots"]],
)  # fmt: skip
def test_bad_arguments_print_nothing_to_evaluate(run, arguments):
    outcome = run(main, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.strip()
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("arguments", [[], ["--root", "/somewhere"], ["--root", "x"]])
def test_in_a_deleted_folder(tmp_path, arguments):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd '{gone}' && rmdir '{gone}' && exec '{COMMAND}' {' '.join(arguments)}"
    environment = {**os.environ, "nnUNet_extTrainer": "relative"}
    run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout, "Traceback" in run.stderr) == (2, "", False)
    assert "current folder does not exist any more" in run.stderr


def test_exports_for_powershell(run, monkeypatch):
    """Single quotes keep everything as it is; a quote within is doubled, and PowerShell knows five of them."""
    monkeypatch.delenv("nnUNet_raw", raising=False)
    outcome = run(main, "--root", "/data/o'brien \u2019s $HOME", "--shell", "powershell")
    assert outcome.code == 0
    lines = dict(line.removeprefix("$env:").split(" = ") for line in outcome.out.splitlines())
    assert lines["nnUNet_raw"] == "'/data/o''brien \u2019\u2019s $HOME/nnUNet_raw'"
    assert lines["nnUNet_extTrainer"].strip("'").endswith(str(trainers_folder()))


@pytest.mark.parametrize("name", ["rl_nnunet_env", "rl_nnunet_plan_and_preprocess"])
def test_version(name):
    run = subprocess.run([COMMAND.with_name(name), "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"rl_nnunet {rl_nnunet.__version__} with nnunetv2 2.8")


@pytest.fixture
def check(run, monkeypatch):
    """Return a function that runs the check in an environment in which all is well, but for some variables."""
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers_folder()))

    def run_check(**variables):
        for name, value in variables.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, str(value))
        outcome = run(main, "--check")
        lines = [line.split(None, 2) for line in outcome.out.splitlines() if line[:1].strip()]
        return outcome.code, {subject: (status, *rest) for status, subject, *rest in lines[:-1]}, outcome.out

    return run_check


def test_check_of_a_good_environment(check):
    code, found, out = check()
    assert code == 0, out
    assert out.endswith("No problem.\n")
    for subject in ("python", "rl_nnunet", "nnunetv2", "torch", "torchvision", "nnUNet_extTrainer", "trainers"):
        assert found[subject][0] == "OK"
    assert "RLXAlignTrainer, RLXAlignTrainerBranchNorm" in found["trainers"][1]
    assert not {"AgentTraining", "AbsentChannels", "AdaptedPlans"} & set(found["trainers"][1].split(", "))
    assert "GB free" in found["nnUNet_raw"][1]


@pytest.mark.parametrize(
    ("variable", "value", "status"),
    [
        ("nnUNet_raw", None, "PROBLEM"),
        ("nnUNet_results", "", "PROBLEM"),
        ("nnUNet_preprocessed", "~/x", "PROBLEM"),
        ("nnUNet_results", __file__, "PROBLEM"),
        ("nnUNet_results", f"{__file__}/x", "PROBLEM"),
        ("nnUNet_preprocessed", "/tmp/not/there/yet", "NOTE"),
        ("nnUNet_extTrainer", None, "PROBLEM"),
        ("nnUNet_extTrainer", "/tmp", "PROBLEM"),
        ("nnUNet_extTrainer", f"{trainers_folder()}{os.pathsep}/not/there", "NOTE"),
        ("nnUNet_n_proc_DA", "0", "NOTE"),
        ("nnUNet_n_proc_DA", "x", "PROBLEM"),
        ("nnUNet_def_n_proc", "0", "PROBLEM"),
    ],
)
def test_check_says_what_is_wrong(check, variable, value, status):
    code, found, out = check(**{variable: value})
    assert found[variable][0] == status, out
    assert code == (1 if status == "PROBLEM" else 0)


def test_builds_of_torch_that_do_not_match(check, monkeypatch, tmp_path):
    """A torchvision that fails as one from another index does."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    code, _, out = check()
    assert code == 1
    assert "cannot be imported: operator torchvision::nms does not exist" in out
    assert "both from one index" in out


def test_a_version_that_was_not_tested(check, monkeypatch):
    version = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "3.0" if name == "nnunetv2" else version(name))
    code, found, _ = check()
    assert code == 1
    assert found["nnunetv2"][0] == "PROBLEM"
