"""What an epoch's values are, and a picture that is written in one step, from complete logs and short ones."""

import math

import numpy as np
import pytest
from matplotlib import pyplot as plt

from rl_nnunet.progress_plot import Panel, last, mean, merge_panels, most_frequent, plot_progress, reduce_steps

PANELS = (
    Panel("reward", "Dice", ("reward_stage2",)),
    Panel("rotation", "index", ("rotation_stage2",), most_frequent),
    Panel("reward", "Dice", ("reward_stage3",)),
    Panel("Dice", "Dice", ("pseudo_dice",), None),
)


@pytest.mark.parametrize(
    ("reduction", "expected"), [(mean, 7 / 4), (last, 1.0), (most_frequent, 1.0)], ids=["mean", "last", "mode"]
)
def test_reductions_skip_what_is_absent(reduction, expected):
    assert reduction(np.array([3.0, 1.0, np.nan, 2.0, 1.0, np.nan])) == expected
    assert math.isnan(reduction(np.array([np.nan, np.nan])))


def test_every_key_with_a_reduction_gets_a_value():
    steps = [{"reward_stage2": 1.0, "rotation_stage2": 5}, {}, {"reward_stage2": 2.0, "rotation_stage2": 5}]
    values = reduce_steps(PANELS, steps)
    assert values.keys() == {"reward_stage2", "rotation_stage2", "reward_stage3"}
    assert (values["reward_stage2"], values["rotation_stage2"]) == (1.5, 5)
    assert math.isnan(values["reward_stage3"])


def test_panels_of_one_title_are_one():
    assert [(panel.title, panel.keys) for panel in merge_panels(PANELS)] == [
        ("reward", ("reward_stage2", "reward_stage3")), ("rotation", ("rotation_stage2",)), ("Dice", ("pseudo_dice",)),
    ]  # fmt: skip


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3], [math.nan], [0.1] * 100], ids=["epochs", "NaN", "long"])
@pytest.mark.parametrize("panels", [PANELS, PANELS[:1]], ids=["several panels", "one panel"])
def test_picture_is_written(tmp_path, values, panels):
    file = tmp_path / "progress_rl.png"
    log = {key: values for panel in panels for key in panel.keys}
    for _ in range(2):
        plot_progress(log, panels, str(file))
        height, width, _ = plt.imread(file).shape
        assert height >= 320 * len(merge_panels(panels))
        assert width > 100
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert plt.get_fignums() == []
