"""Loaders of classifiers: the box that they crop, classes equally likely, and rounds over every case."""

from collections import Counter

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.dataloading.classification_loader import ClassificationLoader, EveryCaseLoader, balanced_probabilities
from rl_nnunet.dataloading.resize import Resize
from rl_nnunet.dataloading.structure_box import StructureBox
from rl_nnunet.plans.classification import Crop

LABELS = LabelManager({"background": 0, "core": 1, "edema": 2}, None)
SHAPE = (12, 20, 16)


class Cases:
    """A data set in memory; the value of a case's image is its number, and 100 more where something is labeled."""

    def __init__(self, number):
        self.identifiers = [f"case{i}" for i in range(number)]

    def load_case(self, case):
        labels = np.zeros((1, *SHAPE), np.int8)
        labels[0, 4:6, 10:15, 3:4] = 1
        labels[0, 5:9, 12:13, 2:8] = 2
        image = labels.clip(0, 1) * 100.0 + int(case[4:])
        locations = {label: np.argwhere(labels == label) for label in (1, 2)}
        return np.repeat(image, 2, 0), labels, None, {"class_locations": {**locations, (-1, 0, 1): np.zeros((9, 4))}}


def box(margin=0.0, spacing=(2.0, 1.0, 1.0), crop="structure"):
    return StructureBox(Crop(crop, margin), spacing)


def test_the_box_holds_all_that_is_labeled():
    _, labels, _, properties = Cases(1).load_case("case0")
    found = box().of_locations(SHAPE, properties["class_locations"])
    assert found == ([4, 10, 2], [9, 15, 8])
    assert box().of_mask(labels[0] > 0) == found


def test_the_margin_is_in_mm_and_ends_at_the_image():
    locations = Cases(1).load_case("case0")[3]["class_locations"]
    assert box(4.0).of_locations(SHAPE, locations) == ([2, 6, 0], [11, 19, 12])
    assert box(40.0).of_locations(SHAPE, locations) == ([0, 0, 0], list(SHAPE))


def test_images_of_one_slice_have_no_margin_across_it():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 4, 5] = True
    assert box(2.0, (1.0, 1.0)).of_mask(mask) == ([0, 2, 3], [1, 7, 8])


@pytest.mark.parametrize("kind", ["image", "structure"])
def test_the_whole_image(kind):
    """Where it is asked for, or nothing is labeled."""
    locations = {} if kind == "structure" else Cases(1).load_case("case0")[3]["class_locations"]
    assert box(2.0, crop=kind).of_locations(SHAPE, locations) == ([0, 0, 0], list(SHAPE))


def test_classes_are_drawn_equally_often():
    labels = {f"case{i}": int(i < 2) for i in range(20)}
    probabilities = balanced_probabilities(list(labels), labels)
    assert probabilities.sum() == pytest.approx(1)
    np.testing.assert_allclose(probabilities[:2], 1 / 4)
    np.testing.assert_allclose(probabilities[2:], 1 / 36)


def test_a_batch_holds_the_resized_boxes():
    np.random.seed(0)  # noqa: NPY002 - the loader draws from the global generator
    weights = [0.5, 0.5, 0.0, 0.0]
    loader = ClassificationLoader(Cases(4), 6, [8, 8, 8], LABELS, box(), Resize([8, 8, 8]), weights)
    batch = next(loader)
    assert batch["data"].shape == (6, 2, 8, 8, 8)
    assert set(batch["keys"]) == {"case0", "case1"}
    for sample, case in zip(batch["data"], batch["keys"], strict=True):
        image, labels, _, _ = Cases(4).load_case(case)
        assert sample.max() <= 100 + int(case[4:])
        crop = image[:, 4:9, 10:15, 2:8]
        expected = Resize([8, 8, 8])(image=torch.from_numpy(crop).float(), segmentation=torch.zeros(1, 5, 5, 6))
        torch.testing.assert_close(sample, expected["image"])


def test_every_case_comes_once_a_round():
    loader = EveryCaseLoader(Cases(7), 3, [4, 4, 4], LABELS, box(), Resize([4, 4, 4]))
    rounds = [[next(loader) for _ in loader.batches] for _ in range(2)]
    for batches in rounds:
        assert [len(batch["data"]) for batch in batches] == [3, 3, 1]
        assert Counter(case for batch in batches for case in batch["keys"]) == Counter(Cases(7).identifiers)
    for first, second in zip(*rounds, strict=True):
        torch.testing.assert_close(first["data"], second["data"], rtol=0, atol=0)
