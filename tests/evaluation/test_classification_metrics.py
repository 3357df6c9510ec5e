"""Metrics of classifiers against values that are counted by hand, and probabilities over mirrored images."""

import json
import math

import numpy as np
import pytest
import torch

from rl_nnunet.evaluation.class_probabilities import class_probabilities
from rl_nnunet.evaluation.classification_metrics import classification_metrics, format_metrics, write_summary

NAMES = ("short", "mid", "long")
# True class, and the probabilities: predicted are 0 0 1 | 1 2 | 2 2 0.
TRUTH = [0, 0, 0, 1, 1, 2, 2, 2]
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.3, 0.2],
        [0.3, 0.6, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.4, 0.5],
        [0.1, 0.2, 0.7],
        [0.2, 0.2, 0.6],
        [0.6, 0.0, 0.4],
    ]
)


def test_metrics_are_those_that_are_counted_by_hand():
    metrics = classification_metrics(TRUTH, PROBABILITIES, NAMES)
    assert metrics.confusion == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert metrics.accuracy == 5 / 8
    recalls, precisions = (2 / 3, 1 / 2, 2 / 3), (2 / 3, 1 / 2, 2 / 3)
    assert [metrics.classes[name]["recall"] for name in NAMES] == pytest.approx(recalls)
    assert [metrics.classes[name]["precision"] for name in NAMES] == pytest.approx(precisions)
    assert metrics.recall == metrics.balanced_accuracy == pytest.approx(sum(recalls) / 3)
    assert metrics.f1 == pytest.approx(sum(recalls) / 3)  # precision and recall are equal
    assert [metrics.classes[name]["cases"] for name in NAMES] == [3, 2, 3]


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    metrics = classification_metrics(TRUTH, PROBABILITIES, NAMES)
    for number, name in enumerate(NAMES):
        own = [p[number] for p, label in zip(PROBABILITIES, TRUTH, strict=True) if label == number]
        others = [p[number] for p, label in zip(PROBABILITIES, TRUTH, strict=True) if label != number]
        pairs = [(a > b) + (a == b) / 2 for a in own for b in others]
        assert metrics.classes[name]["auc"] == pytest.approx(np.mean(pairs))


def test_a_class_without_cases():
    """It counts for precision, recall and F1, but not for the balanced accuracy; its area is undefined."""
    metrics = classification_metrics(TRUTH[:3], PROBABILITIES[:3], NAMES)
    assert metrics.balanced_accuracy == pytest.approx(2 / 3)
    assert metrics.recall == pytest.approx(2 / 9)
    assert math.isnan(metrics.auc)
    assert "auc undefined" in format_metrics(metrics)


@pytest.mark.parametrize(("labels", "probabilities"), [([], np.zeros((0, 3))), ([0, 1], np.ones((2, 2)))])
def test_what_does_not_fit_is_an_error(labels, probabilities):
    with pytest.raises(ValueError, match="labels of 3 classes, but probabilities"):
        classification_metrics(labels, probabilities, NAMES)


def test_the_summary_is_json_without_nan(tmp_path):
    cases = dict(zip("abc", PROBABILITIES, strict=False))
    metrics = classification_metrics(TRUTH[:3], PROBABILITIES[:3], NAMES)
    write_summary(tmp_path / "summary.json", metrics, dict.fromkeys("abcd", 0), cases)
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["metrics"]["auc"] is None
    assert content["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert content["cases"]["c"]["prediction"] == "mid"
    assert content["cases"]["c"]["label"] == "short"
    assert content["cases"]["a"]["probabilities"] == dict(zip(NAMES, [0.8, 0.1, 0.1], strict=True))


def test_probabilities_are_averaged_over_all_mirrored_images():
    x = torch.randn(2, 1, 3, 4)

    def network(image):
        return torch.stack((image[:, 0, 0, 0], image[:, 0, 1, 2]), 1)

    mirrored = [x, x.flip(2), x.flip(3), x.flip(2).flip(3)]
    expected = torch.stack([torch.softmax(network(image), 1) for image in mirrored]).mean(0)
    torch.testing.assert_close(class_probabilities(network, x, (0, 1)), expected)
    torch.testing.assert_close(class_probabilities(network, x), torch.softmax(network(x), 1))
