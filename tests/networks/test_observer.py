"""What the weight agents see: against loops and numpy, of noise, of what is absent, and after a restart."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rl_nnunet.networks.observer import (
    LIMIT,
    MEMORY,
    Observer,
    RunningStandardization,
    channel_spreads,
    input_statistics,
    output_statistics,
)


def test_input_statistics_of_what_is_not_blank():
    torch.manual_seed(0)
    x, present = torch.randn(2, 2, 5, 6) + 1, torch.tensor([[True, True], [True, False]])
    x[:, :, 3:] = 0  # padding
    x[0, 1, 0] = -2  # its blank value
    x[1, 1] = -2
    found = input_statistics(x, present, torch.tensor([0.0, -2.0])).view(2, 4, 2)
    for sample, modality in ((0, 0), (0, 1), (1, 0)):
        image = x[sample, modality].numpy()
        first = 1 if modality else 0
        filled = image[first:3]
        steps = np.concatenate([np.abs(np.diff(filled, axis=axis)).ravel() for axis in (0, 1)])
        expected = [filled.size / 30, filled.mean(), math.log(filled.std()), steps.mean() / filled.std()]
        assert found[sample, :, modality].tolist() == pytest.approx(expected, rel=1e-4)
    assert found[1, :, 1].isnan().all()


def test_channel_spreads():
    maps = torch.randn(2, 3, 4, 5)
    np.testing.assert_allclose(channel_spreads(maps), np.log(maps.numpy().std((2, 3))), rtol=1e-4)


@pytest.mark.parametrize("regions", [False, True])
def test_output_statistics_against_loops(regions):
    torch.manual_seed(0)
    own, weights = [torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4), torch.randn(2, 3, 4, 4)], torch.rand(2, 3)
    samples, present = [[0, 1], [0], [0, 1]], torch.tensor([[True, True, True], [True, False, False]])
    found = output_statistics(own, weights, samples, present, regions).numpy()

    def probabilities(logits):
        return logits.sigmoid() if regions else logits.softmax(0)

    def entropy(p):
        parts = torch.stack((p, 1 - p)) if regions else p[None]
        total = -(parts * parts.log()).sum(0)
        return (total.mean() / math.log(2) if regions else total.sum(0).mean() / math.log(3)).item()

    for sample in range(2):
        members = [m for m in range(3) if present[sample, m]]
        logits = {m: own[m][samples[m].index(sample)] for m in members}
        joint = sum(weights[sample, m] * logits[m] for m in members)
        assert found[sample, 6] == pytest.approx(entropy(probabilities(joint)), rel=1e-4)
        for m in range(3):
            others = [other for other in members if other != m]
            if m not in members:
                assert np.isnan(found[sample, [m, 3 + m]]).all()
                continue
            assert found[sample, m] == pytest.approx(entropy(probabilities(logits[m])), rel=1e-4)
            if not others:
                assert np.isnan(found[sample, 3 + m])
                continue
            mean = sum(probabilities(logits[other]) for other in others) / len(others)
            one, mean = (p if regions else p[1:] for p in (probabilities(logits[m]), mean))
            dice = (2 * (one * mean).sum() / (one + mean).sum()).item()
            assert found[sample, 3 + m] == pytest.approx(dice, rel=1e-4)


def test_running_statistics_are_those_of_all_that_was_known():
    torch.manual_seed(0)
    values, running = 3 + 2 * torch.randn(60, 4), RunningStandardization(4)
    values[::3, 1] = torch.nan
    values[:, 2] = torch.inf
    assert running(values[:, [0, 0, 0, 0]]).max() == LIMIT  # nothing is known yet: unit variance
    for batch in values.split(7):
        running.update(batch)
    for entry in (0, 1, 3):
        column = values[:, entry][values[:, entry].isfinite()]
        assert running.mean[entry].item() == pytest.approx(column.mean().item(), rel=1e-4)
        assert running.variance[entry].item() == pytest.approx(column.var(correction=0).item(), rel=1e-4)
    seen = running(values)
    torch.testing.assert_close(seen[:, 0], ((values[:, 0] - values[:, 0].mean()) / values[:, 0].std(correction=0)))
    assert seen[:, 2].eq(0).all()
    assert seen[::3, 1].eq(0).all()


def test_running_statistics_follow_what_drifts():
    torch.manual_seed(0)
    running = RunningStandardization(1)
    for center in (0.0, 10.0):
        for _ in range(8):
            running.update(center + torch.randn(MEMORY, 1))
    assert running.mean.item() == pytest.approx(10, abs=0.5)


def test_statistics_are_part_of_the_weights_and_stay_where_they_are_not_updated():
    torch.manual_seed(0)
    observer, present = Observer(2, 3, regions=False), torch.ones(4, 2, dtype=torch.bool)
    given = (torch.randn(4, 8), torch.randn(4, 3), torch.randn(4, 5), present)
    observer(*given, True)
    restored = Observer(2, 3, regions=False)
    restored.load_state_dict(observer.state_dict())
    for _ in range(2):
        for name, seen in observer(*given, False).items():
            assert seen.shape == (4, observer.sizes[name])
            assert torch.equal(seen, restored(*given, False)[name])
            assert torch.equal(seen[:, :2], torch.ones(4, 2))


def smooth(size):
    return torch.nn.functional.avg_pool2d(torch.randn(size, 1, 20, 20), 5, stride=1)[:, :, :16, :16] * 5


def test_noise_is_told_from_signal():
    """A linear classifier on held-out cases; both have the same mean and spread, and outputs of nothing learnt."""
    torch.manual_seed(0)
    observer, labels = Observer(2, 4, regions=False), torch.arange(200) % 2
    x = torch.cat(
        (smooth(200), torch.where(labels.view(-1, 1, 1, 1) == 1, torch.randn(200, 1, 16, 16), smooth(200))), 1
    )
    present = torch.ones(200, 2, dtype=torch.bool)
    own = [torch.randn(200, 2, 4, 4) for _ in range(2)]
    outputs = output_statistics(own, torch.ones(200, 2), [list(range(200))] * 2, present, False)
    inputs = input_statistics(x, present, torch.zeros(2))
    seen = observer(inputs, torch.zeros(200, 4), outputs, present, True)["inter"].numpy()
    classifier = LogisticRegression().fit(seen[:100], labels[:100])
    assert classifier.score(seen[100:], labels[100:]) > 0.95
