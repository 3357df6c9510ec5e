"""The command before it trains: what it refuses, what it skips, the script for a cluster; and the table."""

import json
import subprocess

import pytest

from rl_nnunet.command_queue import DONE, RUNNING, Job
from rl_nnunet.fold_training import FoldTraining
from rl_nnunet.training.folds_table import FoldsTable
from rl_nnunet.training.train_folds import main

EPOCH = """
2026-11-26 20:31:58.637510: Epoch {epoch}
2026-11-26 20:33:02.766645: train_loss 0.5
2026-11-26 20:33:02.766693: val_loss -0.5
2026-11-26 20:33:02.766773: Pseudo dice {dice}
2026-11-26 20:33:02.766857: Epoch time: {seconds} s
"""


@pytest.fixture
def planned(nnunet_folders):
    """A data set with plans, and the training of a fold of it."""
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Own"
    folder.mkdir()
    (folder / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": {}}}))
    return lambda fold: FoldTraining("Dataset001_Own", "2d", "nnUNetTrainer", "nnUNetPlans", str(fold))


def write(training, *names):
    for name in names:
        file = training.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


TRAINED = ("checkpoint_final.pth", "checkpoint_best.pth")
FINISHED = (*TRAINED, "validation/summary.json")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("-d", 9, "-c", "2d"), "-d 9: there is no data set"),
        (("-d", 1, "-c", "3d"), "-c 3d: nnUNetPlans of Dataset001_Own has 2d"),
        (("-d", 1, "-c", "2d", "-p", "Other"), "There are no plans"),
        (("-d", 1, "-c", "2d"), "add --c to go on with what is missing, or --overwrite"),
        (("-d", 1, "-c", "2d", "-f", "all", "--slurm"), "-f all has no number"),
        (("-d", 1, "-c", "2d", "-f", 0, 2, "--c", "--slurm"), "All folds are finished"),
    ],
)
def test_refusals(run, planned, assert_refused_in_one_sentence, words, fragment):
    for fold in (0, 2):
        write(planned(fold), *FINISHED)
    devices = () if "--slurm" in words else ("--devices", "cpu")
    assert_refused_in_one_sentence(run(main, *words, *devices), fragment)


@pytest.mark.parametrize("words", [(), ("--devices", "gpu"), ("--devices", "cpu", "-f", "x"), ("--c", "--overwrite")])
def test_arguments_that_are_none(run, words):
    outcome = run(main, "-d", 1, "-c", "2d", *words)
    assert outcome.code == 2
    assert outcome.err.startswith("usage: rl_nnunet_train_folds")


def test_what_is_left_of_a_fold(planned):
    training = planned(0)
    assert training.resuming_flags() == []
    write(training, "checkpoint_latest.pth")
    assert training.resuming_flags() == ["--c"]
    write(training, *TRAINED)
    assert training.resuming_flags() == ["--val"]
    assert not training.is_finished(npz=False)
    write(training, *FINISHED)
    assert training.is_finished(npz=False)
    assert not training.is_finished(npz=True)
    write(training, "validation/case.npz", "mine.txt", "training_log_2026_11_26_20_31_57.txt")
    assert training.is_finished(npz=True)
    training.forget()
    assert not training.is_started()
    assert sorted(path.name for path in training.folder.rglob("*.*")) == ["case.npz", "mine.txt"]


def test_slurm_runs_one_line_a_fold(run, planned, monkeypatch, tmp_path):
    """The script is run by a shell, as an array task is, with an nnUNetv2_train that repeats its words."""
    command = tmp_path / "it's here" / "nnUNetv2_train"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "$nnUNet_results" "$@"\n')
    command.chmod(0o755)
    write(planned(1), *FINISHED, "validation/case.npz")
    monkeypatch.setattr("sys.executable", str(command.with_name("python")))
    monkeypatch.setenv("RL_NNUNET_SEED", "7")
    words = ("-d", 1, "-c", "2d", "--npz", "--c", "--slurm", "--devices", 0, 1)
    outcome = run(main, *words)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert {"#SBATCH --array=0,2,3,4%2", "#SBATCH --gres=gpu:1", "export RL_NNUNET_SEED=7"} <= set(lines)
    (tmp_path / "folds.sh").write_text(outcome.out)
    shell = subprocess.run(
        ["bash", "folds.sh"], cwd=tmp_path, env={"SLURM_ARRAY_TASK_ID": "3"}, capture_output=True, text=True, check=True
    )
    results = tmp_path / "nnUNet_results"
    expected = "Dataset001_Own 2d 3 -tr nnUNetTrainer -p nnUNetPlans -device cuda --npz --c"
    assert shell.stdout == f"{results} {expected}\n"
    on_cpu = run(main, "-d", 1, "-c", "2d", "-f", 0, "--slurm", "--devices", "cpu").out
    assert "-device cpu" in on_cpu
    assert "--gres" not in on_cpu


def test_the_table(planned, capsys):
    """A fold that went on behind its last log, one that is validated, one that waits, and one that was finished."""
    going, validating, waiting, finished = map(planned, range(4))
    write(going, "checkpoint_latest.pth")
    (going.folder / "debug.json").write_text(json.dumps({"num_epochs": "10"}))
    for name, epochs in (("2026_11_26_20_31_57", range(6)), ("2026_11_27_08_00_00", range(2, 4))):
        log = "".join(EPOCH.format(epoch=epoch, dice=f"[0.2, 0.{epoch}]", seconds=30.0) for epoch in epochs)
        (going.folder / f"training_log_{name}.txt").write_text(log)
    write(validating, *TRAINED)
    write(finished, *FINISHED)
    jobs = [Job("a", list, going.output), Job("b", list, going.output), Job("c", list, going.output), None]
    for job, place in zip(jobs[:2], ("GPU 0", "GPU 1"), strict=True):
        job.state, job.place = RUNNING, place
    table = FoldsTable(list(zip((going, validating, waiting, finished), jobs, strict=True)))
    table.show()
    table.show()  # nothing has changed
    table.show(last=True)
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines() if line.strip()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["fold", "device", "epoch", "pseudo Dice", "time left", "state"],
        ["0", "GPU 0", "4/10", "0.2500", "0:03:00", "running"],
        ["1", "GPU 1", "0/?", "–", "–", "validating"],
        ["2", "–", "–", "–", "–", "waiting"],
        ["3", "–", "–", "–", "–", "finished before"],
    ]
    jobs[0].state = DONE
    table.show()
    assert "done" in capsys.readouterr().out
