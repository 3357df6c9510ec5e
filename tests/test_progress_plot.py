"""The picture is written in one step, from complete logs, short ones, and ones without agents."""

import math

import pytest
from matplotlib import pyplot as plt

from rl_nnunet.progress_plot import plot_progress
from rl_nnunet.trainers.rl_xalign_trainer import PANELS

KEYS = (
    *(f"{key}_CT" for key in ("train_loss", "pseudo_dice", "agwd_dice", "agwd_cross_entropy")),
    *(f"{key}_stage2" for key in ("reward", "similarity", "policy_entropy", "rotation")),
)


@pytest.mark.parametrize(
    "log",
    [
        {key: [0.1, 0.2, 0.3] for key in KEYS},
        {key: [math.nan] for key in KEYS},
        {"train_loss_CT": [0.5], "train_loss_MRI": [0.4]},
        {key: [0.1] * 100 for key in KEYS},
    ],
    ids=["epochs", "NaN", "no agents", "long"],
)
def test_picture_is_written(tmp_path, log):
    file = tmp_path / "progress_rl.png"
    for _ in range(2):
        plot_progress(log, PANELS, str(file))
        height, width, _ = plt.imread(file).shape
        assert height > width > 100
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert plt.get_fignums() == []


def test_every_curve_has_a_panel():
    prefixes = [prefix for _, group, _ in PANELS for prefix in group]
    assert all(sum(key.startswith(prefix) for prefix in prefixes) == 1 for key in KEYS)
