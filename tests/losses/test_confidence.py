"""The probability of the true label against loops over voxels."""

import math

import pytest
import torch

from rl_nnunet.losses.confidence import true_label_probability


def by_hand(logits, target, ignore=None):
    """Softmax of one sample, voxel by voxel; mean per class, then over the classes that occur."""
    per_class = {}
    for position in range(target.numel()):
        label = target.flatten()[position].item()
        if label == ignore:
            continue
        scores = logits.flatten(1)[:, position].tolist()
        probability = math.exp(scores[label]) / sum(map(math.exp, scores))
        per_class.setdefault(label, []).append(probability)
    means = [sum(values) / len(values) for values in per_class.values()]
    return sum(means) / len(means) if means else 0.0


@pytest.mark.parametrize("ignore", [None, 3])
def test_labels(ignore):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 3, 4, 5), torch.randint(4 if ignore else 3, (3, 1, 4, 5))
    target[1] = 0
    result = true_label_probability(logits, target, ignore_label=ignore)
    expected = [by_hand(one, label, ignore) for one, label in zip(logits, target, strict=True)]
    torch.testing.assert_close(result, torch.tensor(expected))


def test_all_ignored_is_zero():
    assert true_label_probability(torch.randn(1, 2, 3, 3), torch.full((1, 1, 3, 3), 2), ignore_label=2).tolist() == [0]


@pytest.mark.parametrize("ignore", [None, 4])
def test_regions(ignore):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 4, 4)
    target = (torch.rand(2, 3 if ignore else 2, 4, 4) < 0.4).float()
    target[0, 1] = 0  # a region that does not occur
    result = true_label_probability(logits, target, regions=True, ignore_label=ignore)
    for sample in range(2):
        means = []
        for region in range(2):
            for truth in (0, 1):
                values = [
                    torch.sigmoid(logit if truth else -logit).item()
                    for logit, inside, ignored in zip(
                        logits[sample, region].flatten(), target[sample, region].flatten(),
                        target[sample, 2].flatten() if ignore else torch.zeros(16), strict=True,
                    )
                    if inside == truth and not ignored
                ]  # fmt: skip
                means += [sum(values) / len(values)] if values else []
        assert result[sample].item() == pytest.approx(sum(means) / len(means), abs=1e-6)


def test_certain_and_right_is_one():
    target = torch.randint(3, (2, 1, 4, 4, 4))
    logits = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1) * 100.0
    torch.testing.assert_close(true_label_probability(logits, target), torch.ones(2))
