"""Folds side by side on the CPU, by the command: equal to one after the other, whatever happens in between."""

import contextlib
import os
import signal
import time

import pytest
from checkpoints import assert_equal, comparable

pytestmark = pytest.mark.slow
SEED = {"RL_NNUNET_SEED": "3", "nnUNet_n_proc_DA": "0"}
FOLDS = ("fold_0", "fold_1")
TRAINER = "ShortTrainer"


def words(project, *flags):
    model = ("-d", project.id, "-c", "3d_fullres", "-tr", TRAINER, "-p", "RLXAlignSmallPlans")
    return ("rl_nnunet_train_folds", *model, "-f", 0, 1, "--threads", 1, *flags)


def compare(project, other):
    for fold in FOLDS:
        folders = [one.model(TRAINER) / fold for one in (project, other)]
        assert_equal(*map(comparable, folders), fold)
        for file in (folders[1] / "validation").glob("*.nii.gz"):
            assert (folders[0] / "validation" / file.name).read_bytes() == file.read_bytes()


@pytest.fixture(scope="module")
def sequential(hearts, tmp_path_factory):
    project = hearts.with_results(tmp_path_factory.mktemp("sequential"))
    project.run(*words(project, "--devices", "cpu"), **SEED)
    return project


def test_side_by_side_equals_one_after_the_other(sequential, tmp_path):
    project = sequential.with_results(tmp_path)
    printed = project.run(*words(project, "--devices", "cpu", "cpu", "--npz"), **SEED)
    compare(project, sequential)
    rows = [line.split() for line in printed.splitlines() if line.startswith(("0 ", "1 "))]
    assert [row[:3] + row[5:] for row in rows[-2:]] == [[fold, "cpu", "2/2", "done"] for fold in "01"]
    for fold in FOLDS:
        assert "Mean Validation Dice" in (project.model(TRAINER) / fold / "nnUNetv2_train.log").read_text()
        assert list((project.model(TRAINER) / fold / "validation").glob("*.npz"))
    assert "add --c to go on" in project.run(*words(project, "--devices", "cpu"), code=2)


def test_killed_then_failed_then_resumed(sequential, tmp_path):
    """SIGKILL in the second epoch of both; then a fold fails, while the other one goes on; then that one, too."""
    project = sequential.with_results(tmp_path)
    folders = [project.model(TRAINER) / fold for fold in FOLDS]
    where = ("--devices", "cpu", "cpu")
    with project.start(*words(project, *where), **SEED, RL_NNUNET_TEST_WAIT_IN_EPOCH="1") as process:
        deadline = time.monotonic() + 600
        while not all((folder / "waiting").exists() for folder in folders) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    assert not any((folder / "checkpoint_final.pth").exists() for folder in folders)

    checkpoints = [folders[1] / f"checkpoint_{name}.pth" for name in ("latest", "best")]
    whole = [file.read_bytes() for file in checkpoints]
    for file in checkpoints:
        file.write_bytes(b"half")
    printed = project.run(*words(project, *where, "--c"), code=2, **SEED)
    sentence = printed.splitlines()[-1]
    assert sentence.startswith("Error: 1 of 2 folds failed")
    assert f"fold 1, {folders[1] / 'nnUNetv2_train.log'}, which ends in: " in sentence
    assert "it is truncated or no checkpoint" in sentence

    for file, content in zip(checkpoints, whole, strict=True):
        file.write_bytes(content)
    printed = project.run(*words(project, *where, "--c"), **SEED)
    assert [line.split()[-2:] for line in printed.splitlines() if line.startswith("0 ")][-1] == ["finished", "before"]
    compare(project, sequential)
