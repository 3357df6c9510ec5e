"""What the end-to-end tests share: comparing checkpoints, and killing a training in the middle of an epoch."""

import contextlib
import os
import signal
import time

import numpy as np
import torch


def load(folder, name="checkpoint_final.pth"):
    return torch.load(folder / name, map_location="cpu", weights_only=False)


def assert_equal(a, b, where="checkpoint"):
    """Compare checkpoints: tensors, arrays and numbers bit by bit, NaN equal to NaN."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    elif isinstance(a, torch.Tensor | np.ndarray | float | np.floating):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=where)
    else:
        assert a == b, where


def comparable(folder):
    """The final checkpoint without time stamps and without the folders in the trainer's arguments."""
    checkpoint = load(folder)
    for key in ("epoch_start_timestamps", "epoch_end_timestamps"):
        del checkpoint["logging"][key]
    return checkpoint


def kill_in_epoch_1(project, trainer, plans, **variables):
    """Train until the second iteration of epoch 1 and kill the command there."""
    fold = project.model(trainer, plans) / "fold_0"
    words = ("3d_fullres", "0", "-p", plans, "-tr", trainer, "-device", "cpu")
    variables = {**variables, "nnUNet_n_proc_DA": "0", "RL_NNUNET_TEST_WAIT_IN_EPOCH": "1"}
    with project.start("nnUNetv2_train", project.id, *words, **variables) as process:
        deadline = time.monotonic() + 300
        while not (fold / "waiting").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert not (fold / "checkpoint_final.pth").exists()
