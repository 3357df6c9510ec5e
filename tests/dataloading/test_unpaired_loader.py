"""Batches of unpaired data: each branch from a case that has it, all branches around the same class."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.dataloading.unpaired_loader import (
    BranchChannels,
    BranchDataset,
    UnpairedDataLoader,
    branches_of_case,
    cases_per_branch,
)
from rl_nnunet.errors import InputError

# The MRI channels come first in the order of the branches and last in the order of the channels.
LAYOUT = BranchLayout((Branch("MRI", (1, 2)), Branch("CT", (0,))), "unpaired")
CASES = {"a": "ct", "b": "mri", "c": "ct", "d": "mri", "e": "pair"}
LABELS = {"background": 0, "one": 1, "two": 2, "three": 3}
PATCH = (6, 8, 8)


def loader(
    dataset, labels=LABELS, regions_class_order=None, patch_size=PATCH, transforms=lambda channels: None, **options
):
    settings = {"batch_size": 3, "oversample_foreground_percent": 1.0, **options}
    np.random.seed(0)  # noqa: NPY002 - nnU-Net draws from the global generator
    return UnpairedDataLoader(
        dataset,
        LAYOUT,
        LabelManager(labels, regions_class_order),
        transforms,
        patch_size=patch_size,
        final_patch_size=patch_size,
        **settings,
    )


def center(target):
    """The label in the middle of each sample's patch, for each branch: (samples, branches)."""
    return target[(slice(None), slice(None), *(size // 2 for size in target.shape[2:]))]


def test_branches_of_cases_on_disk(write_preprocessed):
    dataset = write_preprocessed(CASES)
    kinds = {"ct": ("CT",), "mri": ("MRI",), "pair": ("MRI", "CT")}
    for name, kind in CASES.items():
        assert branches_of_case(dataset.load_case(name)[0], LAYOUT) == kinds[kind]
    assert cases_per_branch(dataset, LAYOUT) == {"MRI": ["b", "d", "e"], "CT": ["a", "c", "e"]}


@pytest.mark.parametrize("channels", [(1, 2), (0,), (2, 0)])
@pytest.mark.parametrize(
    "item",
    [
        (slice(None), slice(2, 5), slice(0, 15), slice(3, 4)),
        (slice(0, 1), slice(2, 5)),
        slice(None),
        (0, slice(1, 3), slice(None), slice(None)),
    ],
)
def test_channels_of_a_branch_read_as_slices_of_the_array(write_preprocessed, channels, item):
    array = write_preprocessed({"a": "pair"}).load_case("a")[0]
    view = BranchChannels(array, channels)
    whole = np.asarray(array[:])[list(channels)]
    assert view.shape == whole.shape
    assert view.ndim == whole.ndim
    assert view.dtype == whole.dtype
    np.testing.assert_array_equal(view[item], whole[item])


def test_dataset_of_a_branch_gives_nnunets_cases(write_preprocessed):
    dataset = write_preprocessed(CASES)
    data, segmentation, previous, properties = BranchDataset(dataset, LAYOUT.branches[0], ["b"]).load_case("b")
    assert data.shape == (2, 14, 15, 16)
    assert segmentation.shape == (1, 14, 15, 16)
    assert previous is None
    assert set(properties["class_locations"]) == {1, 2, 3}


def test_each_branch_comes_from_a_case_that_has_it(write_preprocessed):
    batches = loader(write_preprocessed(CASES))
    used = {"CT": set(), "MRI": set()}
    for _ in range(10):
        batch = next(batches)
        assert batch["data"].shape == (3, 3, *PATCH)
        assert batch["target"].shape == (3, 2, *PATCH)
        for name, cases in batch["keys"].items():
            used[name] |= set(cases)
            for sample, case in enumerate(cases):
                expected = 100 * (1 + list(CASES).index(case))
                for channel in dict(zip(LAYOUT.names, LAYOUT.channels, strict=True))[name]:
                    assert batch["data"][sample, channel].mean() == pytest.approx(expected, abs=1)
    assert used == {"MRI": {"b", "d", "e"}, "CT": {"a", "c", "e"}}


def test_branches_are_centered_on_the_same_class(write_preprocessed):
    batches = loader(write_preprocessed(CASES))
    seen = set()
    for _ in range(10):
        batch = next(batches)
        forced = list(batches.loaders["MRI"].forced_classes)
        assert center(batch["target"]).tolist() == [[label, label] for label in forced]
        seen |= set(forced)
    assert seen == {1, 2, 3}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1 / 3), (0.5, 2 / 3), (1.0, 1.0)])
def test_a_share_of_the_samples_is_matched_and_the_others_by_chance(write_preprocessed, share, expected):
    """Of three classes, two independent draws agree in a third of the samples."""
    batches = loader(write_preprocessed(CASES), matched_share=share, batch_size=100)
    batch = next(batches)
    middle = center(batch["target"])
    forced = [batches.loaders[name].forced_classes for name in ("MRI", "CT")]
    assert middle.T.tolist() == forced
    assert batch["matched"] == (middle[:, 0] == middle[:, 1]).tolist()
    assert np.mean(batch["matched"]) == pytest.approx(expected, abs=0.12)


def test_samples_that_are_not_forced_fall_anywhere(write_preprocessed):
    """The first of three samples is not oversampled at one third... at 0.67 the last two are, as in nnU-Net."""
    batches = loader(write_preprocessed(CASES), oversample_foreground_percent=0.67)
    differing = 0
    for _ in range(10):
        middle = center(next(batches)["target"])
        assert (middle[1:, 0] == middle[1:, 1]).all()
        assert (middle[1:] > 0).all()
        differing += int(middle[0, 0] != middle[0, 1])
    assert differing > 0


def test_probabilistic_oversampling(write_preprocessed):
    batches = loader(write_preprocessed(CASES), probabilistic_oversampling=True)
    middle = center(next(batches)["target"])
    assert (middle[:, 0] == middle[:, 1]).all()


def test_the_batch_says_which_samples_show_the_same_class(write_preprocessed):
    batches = loader(write_preprocessed(CASES), oversample_foreground_percent=0.67)
    for _ in range(3):
        assert next(batches)["matched"] == [False, True, True]


def test_with_probabilistic_oversampling_both_branches_have_to_be_forced(write_preprocessed):
    batches = loader(
        write_preprocessed(CASES), probabilistic_oversampling=True, oversample_foreground_percent=0.5, batch_size=40
    )
    batch = next(batches)
    middle, forced = center(batch["target"]), batches.loaders["MRI"].forced_classes
    matched = torch.tensor(batch["matched"])
    assert 2 < matched.sum() < 20  # a quarter of 40
    assert (middle[matched] == torch.tensor(forced)[matched, None]).all()
    single = torch.tensor([follows for loader in batches.loaders.values() for follows in loader.follows])
    assert single.sum() > 2 * matched.sum()


def test_a_case_without_the_class_is_centered_on_another(write_preprocessed):
    dataset = write_preprocessed({"a": "ct"}, classes=(1, 2))
    write_preprocessed({"b": "mri"}, classes=(3,))
    dataset.identifiers = ["a", "b"]
    batches = loader(dataset)
    for _ in range(5):
        middle = center(next(batches)["target"])
        assert (middle[:, 0] == 3).all()
        assert ((middle[:, 1] == 1) | (middle[:, 1] == 2)).all()


@pytest.mark.parametrize("locations", [{1: (1,), 2: (2,)}, {1: (1,), 2: (2,), 3: ()}])
def test_a_case_without_the_class_is_not_matched(write_preprocessed, locations):
    """Class 3 has no place in the CT; a class whose list of voxels is empty is none."""
    dataset = write_preprocessed({"a": "ct"}, locations=locations)
    write_preprocessed({"b": "mri"})
    dataset.identifiers = ["a", "b"]
    batches = loader(dataset, batch_size=20)
    matched = next(batches)["matched"]
    assert matched == [label != 3 for label in batches.loaders["MRI"].forced_classes]
    assert len(set(matched)) == 2


def test_regions(write_preprocessed):
    labels = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "inner": 3}
    regions = {(1, 2, 3): (1, 2, 3), (2, 3): (2, 3), 3: (3,)}
    batches = loader(write_preprocessed(CASES, locations=regions), labels, [1, 2, 3])
    for _ in range(5):
        middle = center(next(batches)["target"])
        for region, labels_there in zip(batches.loaders["MRI"].forced_classes, middle.tolist(), strict=True):
            assert set(labels_there) <= set(region if isinstance(region, tuple) else (region,))


def test_ignore_label(write_preprocessed):
    """Samples that are not forced are centered on annotated voxels, as in nnU-Net."""
    annotated = (-1, 0, 1, 2, 3)
    locations = {annotated: (1, 2, 3), 1: (1,), 2: (2,), 3: (3,)}
    dataset = write_preprocessed(CASES, locations=locations, ignore=4)
    batches = loader(dataset, {**LABELS, "ignore": 4}, oversample_foreground_percent=0.34)
    assert 4 not in batches.classes
    for _ in range(5):
        middle = center(next(batches)["target"])
        assert (middle > 0).all()
        assert middle[-1, 0] == middle[-1, 1] == batches.loaders["MRI"].forced_classes[-1]


def test_2d_patches(write_preprocessed):
    batches = loader(write_preprocessed(CASES), patch_size=PATCH[1:])
    batch = next(batches)
    assert batch["data"].shape == (3, 3, *PATCH[1:])
    assert batch["target"].shape == (3, 2, *PATCH[1:])
    assert center(batch["target"]).tolist() == [[label, label] for label in batches.loaders["MRI"].forced_classes]


def test_targets_of_deep_supervision_are_stacked_per_scale(write_preprocessed):
    scales = [[1.0] * 3, [0.5] * 3]
    batch = next(loader(write_preprocessed(CASES), transforms=lambda channels: DownsampleSegForDSTransform(scales)))
    assert [tuple(t.shape) for t in batch["target"]] == [(3, 2, *PATCH), (3, 2, 3, 4, 4)]


def test_each_branch_gets_its_own_transform(write_preprocessed):
    asked = []

    def transforms(channels):
        asked.append(tuple(channels))

        def transform(image, segmentation):
            assert len(image) == len(channels)
            return {"image": torch.full_like(image, float(channels[0])), "segmentation": segmentation}

        return transform

    batch = next(loader(write_preprocessed(CASES), transforms=transforms))
    assert asked == [(1, 2), (0,)]
    assert (batch["data"][:, 0] == 0).all()
    assert (batch["data"][:, 1:] == 1).all()


def test_patches_larger_than_the_image_are_padded(write_preprocessed):
    batch = next(loader(write_preprocessed(CASES), patch_size=(20, 20, 20)))
    assert batch["data"].shape == (3, 3, 20, 20, 20)
    assert (batch["target"] == -1).any()


def test_training_needs_every_branch(write_preprocessed):
    with pytest.raises(InputError, match="None of the 2 training cases of this fold has the branch MRI"):
        loader(write_preprocessed({"a": "ct", "c": "ct"}))


@pytest.mark.parametrize("scales", [None, [[1.0] * 3, [0.5] * 3]])
def test_validation_goes_on_with_the_branches_that_are_there(write_preprocessed, scales):
    transforms = DownsampleSegForDSTransform(scales) if scales else None
    dataset = write_preprocessed({"a": "ct", "c": "ct"})
    batches = loader(dataset, transforms=lambda channels: transforms, needs_every_branch=False)
    assert batches.missing == ["MRI"]
    batch = next(batches)
    assert batch["keys"]["MRI"] == []
    assert batch["matched"] == [True] * 3
    assert set(batch["keys"]["CT"]) <= {"a", "c"}
    assert (batch["data"][:, 1:] == 0).all()
    assert (batch["data"][:, 0] > 50).all()
    target = batch["target"][0] if scales else batch["target"]
    assert target.shape == (3, 2, *PATCH)


def test_validation_needs_one_branch(write_preprocessed):
    dataset = write_preprocessed({"a": "ct"})
    dataset.identifiers = []
    with pytest.raises(InputError, match="None of the 0 validation cases"):
        loader(dataset, needs_every_branch=False)
