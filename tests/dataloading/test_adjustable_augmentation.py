"""Knobs on nnU-Net's own augmentation: nothing changes at 1, and each changes what its name says, at once."""

import multiprocessing

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.dataloading.adjustable_augmentation import (
    KNOBS,
    AdjustableAugmentation,
    find_adjustments,
    multiplied,
    planned_probabilities,
    raised,
    stretch,
)
from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.modality_dropout import ModalityDropout
from rl_nnunet.dataloading.repeatable import make_repeatable
from rl_nnunet.dataloading.shared_mirroring import SharedMirroring

NEVER, ALWAYS = 0.0, 1e12
"""Factors of odds."""
ANGLE = np.pi / 6
VOLUME, SQUARE = (10, 11, 12), (13, 14)


def stock(patch_size=VOLUME, mirror_axes=None, dummy_2d=False):
    """nnU-Net's augmentation, repeatable."""
    pipeline = nnUNetTrainer.get_training_transforms(patch_size, (-ANGLE, ANGLE), None, mirror_axes, dummy_2d)
    make_repeatable(pipeline)
    return pipeline


def setting(odds=1.0, strength=1.0, **of):
    """Factors for all transforms, and for some by name, (odds, strength)."""
    factors = torch.tensor([[odds] * len(KNOBS), [strength] * len(KNOBS)], dtype=torch.float64)
    for name, values in of.items():
        factors[:, list(KNOBS).index(name)] = torch.tensor(values, dtype=torch.float64)
    return factors


def adjustable(pipeline, factors):
    return AdjustableAugmentation(pipeline, list(KNOBS), factors)


def sample(patch_size=VOLUME, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, *(size + 4 for size in patch_size), generator=generator)
    return {"image": image, "segmentation": (image[:1] > 0).to(torch.int16)}


def augmented(pipeline, patch_size, seed):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - batchgeneratorsv2 draws from both global generators
    return pipeline(**sample(patch_size, seed))


@pytest.mark.parametrize(
    ("patch_size", "dummy_2d"), [(VOLUME, False), (VOLUME, True), (SQUARE, False)], ids=["3d", "dummy_2d", "2d"]
)
def test_factors_of_1_change_no_bit_of_nnunets_augmentation(patch_size, dummy_2d):
    own = stock(patch_size, mirror_axes=(0, 1), dummy_2d=dummy_2d)
    ours = adjustable(stock(patch_size, mirror_axes=(0, 1), dummy_2d=dummy_2d), setting())
    changed = 0
    for seed in range(40):
        expected, found = (augmented(pipeline, patch_size, seed) for pipeline in (own, ours))
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(found["segmentation"], expected["segmentation"])
        changed += not torch.equal(expected["image"], center(sample(patch_size, seed)["image"], patch_size))
    assert changed > 30  # or the comparison is of no use


def center(image, patch_size):
    return image[(slice(None), *(slice(2, 2 + size) for size in patch_size))]


def test_every_transform_can_be_turned_off():
    """What is left are mirroring and what nnU-Net does to labels."""
    pipeline = adjustable(stock(), setting(odds=NEVER))
    for seed in range(20):
        image = augmented(pipeline, VOLUME, seed)["image"]
        assert torch.equal(image, center(sample(VOLUME, seed)["image"], VOLUME))


@pytest.mark.parametrize("name", KNOBS)
def test_a_transform_that_is_always_applied_alone(name):
    """The factor of its odds reaches it, and that of its strength decides how far it goes: not at all near 0."""
    differences = {}
    for strength in (1e-9, 0.5, 2.0):
        pipeline = adjustable(stock(), setting(odds=NEVER, **{name: (ALWAYS, strength)}))
        images = [augmented(pipeline, VOLUME, seed)["image"] for seed in range(8)]
        plain = [center(sample(VOLUME, seed)["image"], VOLUME) for seed in range(8)]
        differences[strength] = np.mean([float((a - b).abs().mean()) for a, b in zip(images, plain, strict=True)])
    assert differences[1e-9] < 1e-4
    assert 0 < differences[0.5] < differences[2.0]


def test_ranges_are_stretched_around_what_does_nothing():
    assert stretch((-0.5, 0.25), multiplied, 2) == (-1.0, 0.5)
    assert stretch((0.5, 1.5), raised, 2) == (0.25, 2.25)
    assert stretch([0.25, 1], raised, 0.5) == (0.5, 1.0)
    assert stretch(3, multiplied, 0.5) == 1.5
    assert stretch(BGContrast((0.5, 2.0)), raised, 2).contrast_range == (0.25, 4.0)
    for own in ((0.7, 1.4), (0.75, 1.25)):
        assert stretch(own, raised, 1.0) == stretch(own, multiplied, 1.0) == own
    with pytest.raises(TypeError, match="a function is no range that can be stretched"):
        stretch(lambda: 1, raised, 2)


def test_probabilities_are_nnunets_and_follow_the_odds():
    pipeline = stock()
    planned = planned_probabilities(pipeline)
    assert list(planned) == list(KNOBS)
    assert planned["rotation"] == 0.2
    assert planned["gamma"] == 0.3
    assert planned["inverted_gamma"] == 0.1
    factors = setting(odds=3.0)
    wrapped = adjustable(pipeline, factors)
    wrapped(**sample())
    for name, (adjustment,) in find_adjustments(pipeline).items():
        odds = adjustment.probability / (1 - adjustment.probability)  # those set a moment ago
        assert odds == pytest.approx(3 * planned[name] / (1 - planned[name]))
    factors.fill_(1)
    wrapped(**sample())
    assert planned_probabilities(pipeline) == planned


def test_what_has_no_knob_is_left_as_it_is():
    """A noise that is not in a ``RandomTransform``, and a transform that we do not know."""
    bare = GaussianNoiseTransform((0, 1))
    known = RandomTransform(GaussianNoiseTransform((0, 0.1)), apply_probability=0.25)
    pipeline = ComposeTransforms([bare, known, RandomTransform(ComposeTransforms([]), 0.5)])
    assert planned_probabilities(pipeline) == {"noise": 0.25}
    AdjustableAugmentation(pipeline, ["noise"], torch.full((2, 1), 2.0, dtype=torch.float64))(**sample())
    assert bare.noise_variance == (0, 1)
    assert known.apply_probability == pytest.approx(0.4)
    assert pipeline.transforms[2].apply_probability == 0.5


def test_knobs_are_found_within_our_own_wrappers_and_mirroring_is_still_shared():
    pipelines = [ModalityDropout(KeepBlank(stock(mirror_axes=(0, 1, 2)), [0.0, 0.0]), 0.0) for _ in range(2)]
    factors = setting(odds=NEVER)
    branches = [adjustable(pipeline, factors) for pipeline in pipelines]
    mirroring = SharedMirroring(branches)
    for seed in range(5):
        mirroring.start_batch()
        torch.manual_seed(seed)
        first, second = (branch(**sample())["image"] for branch in branches)
        assert torch.equal(first, second)


def batches_of(dataset, factors):
    """nnU-Net's loader in a background process; brightness doubles the image where it is applied."""
    pipeline = stock((6, 8, 8))
    find_adjustments(pipeline)["brightness"][0].transform.multiplier_range = (2.0, 2.0)
    loader = nnUNetDataLoader(
        dataset, 1, (6, 8, 8), (6, 8, 8), LabelManager({"background": 0, "one": 1}, None),
        transforms=adjustable(pipeline, factors),
    )  # fmt: skip
    return NonDetMultiThreadedAugmenter(loader, None, 1, num_cached=1, wait_time=0.002)


# batchgenerators' thread may be about to read a batch of a process that has ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_running_workers_follow_the_factors(write_preprocessed):
    """As nnU-Net starts them; a few batches that were ready before come with the setting before."""
    factors = setting(odds=NEVER).share_memory_()
    batches = batches_of(write_preprocessed({"a": "pair"}, classes=(1,)), factors)
    try:
        for odds, mean in ((NEVER, 100), (ALWAYS, 200), (NEVER, 100)):
            factors[0, list(KNOBS).index("brightness")] = odds
            means = [float(next(batches)["data"].mean()) for _ in range(6)]
            assert means[-2:] == pytest.approx([mean, mean], abs=2)
    finally:
        batches._finish()


def answer(pipeline, asked, answers):
    """Say how probable noise is, each time one is asked."""
    while asked.get():
        pipeline(**sample())
        answers.put(pipeline.adjustments[list(KNOBS).index("noise")][0].owner.apply_probability)


@pytest.mark.slow
def test_a_spawned_worker_follows_the_factors():
    """Where processes are not forked, the pipeline travels by pickle, and the memory stays shared."""
    factors = setting().share_memory_()
    context = multiprocessing.get_context("spawn")
    asked, answers = context.Queue(), context.Queue()
    process = context.Process(target=answer, args=(adjustable(stock(), factors), asked, answers), daemon=True)
    process.start()
    found = []
    for odds in (1.0, NEVER):
        factors[0] = odds
        asked.put(True)
        found.append(answers.get(timeout=120))
    asked.put(False)
    process.join(60)
    assert found == [0.1, 0.0]
    assert process.exitcode == 0
