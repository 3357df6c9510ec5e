"""Subsets of modalities are drawn uniformly, and only of what is there."""

from collections import Counter
from itertools import product

import pytest
import torch

from rl_nnunet.dataloading.modality_dropout import ModalityDropout, draw_subset


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_non_empty_subset_is_equally_likely(size):
    torch.manual_seed(0)
    draws = 3000
    counts = Counter(tuple(draw_subset(size).tolist()) for _ in range(draws))
    expected = {subset for subset in product([False, True], repeat=size) if any(subset)}
    assert set(counts) == expected
    for count in counts.values():
        assert count / draws == pytest.approx(1 / len(expected), abs=0.03)


def test_nothing_is_drawn_of_nothing():
    assert draw_subset(0).tolist() == []


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_withheld_channels_are_zero_and_the_rest_is_as_it_was(share):
    torch.manual_seed(0)
    image = torch.rand(4, 3, 3) + 1
    image[2] = 0  # absent
    samples = [ModalityDropout(dict, share)(image=image.clone()) for _ in range(1000)]
    kept = torch.stack([sample["image"].flatten(1).any(1) for sample in samples])
    for sample, channels in zip(samples, kept, strict=True):
        assert torch.equal(sample["image"][channels], image[channels])
    assert not kept[:, 2].any()
    assert kept[:, [0, 1, 3]].any(1).all()
    # Of three channels, six of the seven subsets lack one; of each channel, three of the seven.
    assert 1 - kept[:, [0, 1, 3]].all(1).float().mean() == pytest.approx(share * 6 / 7, abs=0.05)
    for channel in (0, 1, 3):
        assert 1 - kept[:, channel].float().mean() == pytest.approx(share * 3 / 7, abs=0.05)
