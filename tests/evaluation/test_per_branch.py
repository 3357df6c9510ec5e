"""Mean Dice per branch from a summary.json written by hand."""

import json
import math

import numpy as np
import pytest

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.evaluation.per_branch import SUMMARY_FILE, summarize_per_branch

LAYOUT = BranchLayout((Branch("CT", (0,)), Branch("MRI", (1,))), "unpaired")


class Cases:
    """Preprocessed cases in memory, as nnU-Net's data set gives them."""

    def __init__(self, channels):
        self.channels = channels
        self.identifiers = list(channels)

    def load_case(self, identifier):
        data = np.zeros((2, 8, 8, 8), np.float32)
        for channel in self.channels[identifier]:
            data[channel] = np.random.default_rng(0).normal(size=(8, 8, 8))
        return data, None, None, {}


def write_summary(folder, dice):
    """Write nnU-Net's format: Dice of labels 1 and 2 per case."""
    cases = [
        {
            "metrics": {str(label): {"Dice": value, "IoU": 0.5} for label, value in enumerate(values, 1)},
            "prediction_file": str(folder / f"{name}.nii.gz"),
            "reference_file": f"/elsewhere/{name}.nii.gz",
        }
        for name, values in dice.items()
    ]
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": cases, "mean": {}, "foreground_mean": {}}))


def test_cases_are_grouped_by_their_branches(tmp_path):
    write_summary(tmp_path, {"a": (0.5, 1.0), "b": (0.7, 0.0), "c": (0.9, 0.8), "pair": (1.0, 0.6)})
    table = summarize_per_branch(str(tmp_path), Cases({"a": [0], "b": [0], "c": [1], "pair": [0, 1]}), LAYOUT)
    summary = json.loads((tmp_path / SUMMARY_FILE).read_text())
    assert summary == {
        "CT": {"cases": 2, "1": pytest.approx(0.6), "2": pytest.approx(0.5), "mean": pytest.approx(0.55)},
        "CT+MRI": {"cases": 1, "1": 1.0, "2": 0.6, "mean": pytest.approx(0.8)},
        "MRI": {"cases": 1, "1": 0.9, "2": 0.8, "mean": pytest.approx(0.85)},
    }
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["cases", "1", "2", "mean"]
    assert ["CT", "2", "0.6000", "0.5000", "0.5500"] in lines
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_labels_that_a_case_lacks_do_not_count(tmp_path):
    """nnU-Net's Dice is NaN where neither reference nor prediction has the label."""
    write_summary(tmp_path, {"a": (0.5, math.nan), "b": (0.7, 0.4)})
    summarize_per_branch(str(tmp_path), Cases({"a": [0], "b": [0]}), LAYOUT)
    row = json.loads((tmp_path / SUMMARY_FILE).read_text())["CT"]
    assert row["2"] == pytest.approx(0.4)
    assert row["1"] == pytest.approx(0.6)


def test_identifiers_may_hold_dots(tmp_path):
    write_summary(tmp_path, {"study.1": (0.5, 0.5), "study.2": (0.7, 0.5)})
    summarize_per_branch(str(tmp_path), Cases({"study.1": [0], "study.2": [1]}), LAYOUT)
    assert set(json.loads((tmp_path / SUMMARY_FILE).read_text())) == {"CT", "MRI"}
