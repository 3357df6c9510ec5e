"""nnU-Net's curves from the text that it writes, as it writes it."""

import numpy as np

from rl_nnunet.training_log import read_training_log

EPOCH = """
2026-11-26 20:31:58.637510: Epoch {epoch} 
2026-11-26 20:31:58.637619: Current learning rate: 0.01 
2026-11-26 20:33:02.766057: training loss per branch: train_loss_CT 3.0895, train_loss_MRI 3.0022 
2026-11-26 20:33:02.766645: train_loss {loss} 
2026-11-26 20:33:02.766693: val_loss -0.5 
2026-11-26 20:33:02.766773: Pseudo dice {dice} 
2026-11-26 20:33:02.766857: Epoch time: 64.13 s 
"""  # noqa: W291


def test_a_resumed_training(tmp_path):
    first = [EPOCH.format(epoch=epoch, loss=loss, dice="[0.2, 0.4]") for epoch, loss in ((0, 1.5), (1, 9.0))]
    # Killed in epoch 2, and resumed from the checkpoint of epoch 0.
    first.append("2026-11-26 20:34:00.000000: Epoch 2 \n")
    second = EPOCH.format(epoch=1, loss="1e-05", dice="[np.float32(0.25), np.float32(nan), np.float32(0.75)]")
    (tmp_path / "training_log_2026_9_30_20_31_57.txt").write_text("".join(first))
    (tmp_path / "training_log_2026_10_1_08_00_00.txt").write_text(second)
    assert read_training_log(tmp_path, last_run=True).index.tolist() == [1]
    found = read_training_log(tmp_path)
    assert found.index.tolist() == [0, 1]
    assert found["training loss"].tolist() == [1.5, 1e-5]
    assert found["validation loss"].tolist() == [-0.5, -0.5]
    assert np.allclose(found["mean pseudo Dice"], [0.3, 0.5])
    assert found["seconds"].tolist() == [64.13, 64.13]


def test_without_a_log(tmp_path):
    assert read_training_log(tmp_path).empty
