"""What the end-to-end tests share: comparing checkpoints, killing a training in an epoch, and nnU-Net without us."""

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


def assert_nnunet_predicts_the_same(trained, trainer, plans, folder):
    """With nothing but the name of nnU-Net's own trainer in the checkpoint, its two predictions are the same files."""
    trained.predict(trainer, folder / "with", plans=plans)
    source = trained.model(trainer, plans)
    other = trained.with_results(folder)
    model = other.model("nnUNetTrainer", plans)
    (model / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (model / name).write_text((source / name).read_text())
    checkpoint = load(source / "fold_0")
    del checkpoint["rl_nnunet"]
    torch.save({**checkpoint, "trainer_name": "nnUNetTrainer"}, model / "fold_0" / "checkpoint_final.pth")
    other.run(
        "nnUNetv2_predict", "-i", trained.raw / "imagesTs", "-o", folder / "without", "-d", trained.id, "-c",
        "3d_fullres", "-f", "0", "-p", plans, "-tr", "nnUNetTrainer", "-device", "cpu", "-npp", "1", "-nps", "1",
        "--disable_tta", nnUNet_extTrainer="",
    )  # fmt: skip
    predictions = sorted((folder / "with").glob("*.nii.gz"))
    assert len(predictions) == 2
    for prediction in predictions:
        assert prediction.read_bytes() == (folder / "without" / prediction.name).read_bytes()
