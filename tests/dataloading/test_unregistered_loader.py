"""Batches of patients with several scans: one place in all branches, against images that are their own coordinates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from coordinate_scans import STRAIGHT, coordinates, preprocess, tilted
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.dataloading.unpaired_loader import UnpairedDataLoader
from rl_nnunet.dataloading.unregistered_loader import UnregisteredDataLoader
from rl_nnunet.errors import InputError
from rl_nnunet.grids import Grid
from rl_nnunet.windows import LabelsBetweenVoxels

LAYOUT = BranchLayout((Branch("CT", (0, 1, 2)), Branch("MRI", (3, 4, 5))), "unregistered")
CT = Grid((24, 26, 20), (1.0, 1.1, 2.0), (-10.0, 5.0, 30.0), STRAIGHT)
MRI = Grid((30, 22, 26), (0.8, 1.5, 1.4), (-12.0, 3.0, 33.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
MRI = replace(MRI, origin=(12.0, 3.0, 33.0))
SPACING = (1.5, 1.2, 1.0)
PATCH = (4, 5, 6)
PATIENTS = {"CT_a": "a", "MRI_a": "a", "CT_b": "b", "MRI_c": "c"}


@pytest.fixture
def write_scans(tmp_path):
    """Return a function that writes preprocessed scans, CT_... and MRI_..., whose values are coordinates in mm."""

    def write(grids, transpose=(0, 1, 2), spacing=SPACING):
        for name, grid in grids.items():
            images = np.zeros((6, *grid.size[::-1]), np.float32)
            images[:3] = coordinates(grid)
            images[:, :2] = images[:, :, :, -3:] = 0  # nnU-Net crops it
            if name.startswith("MRI"):
                images = np.roll(images, 3, axis=0)
            heart = np.zeros((1, *grid.size[::-1]), np.int8)
            heart[:, 8:14, 8:14, 8:14] = 1
            data, segmentation, properties = preprocess(images, heart, grid, transpose, spacing)
            nnUNetDatasetBlosc2.save_case(
                data, segmentation, properties, str(tmp_path / name), chunks=(1, 8, 8, 8), blocks=(1, 4, 4, 4)
            )
        return nnUNetDatasetBlosc2(str(tmp_path))

    return write


@pytest.fixture
def four(write_scans):
    """Patient a with both scans, b with a CT, c with an MRI."""
    return write_scans({"CT_a": CT, "MRI_a": MRI, "CT_b": CT, "MRI_c": MRI})


def loader(
    dataset, same_patient=1.0, placement="physical", transpose=(0, 1, 2), spacing=SPACING, patch_size=PATCH, **options
):
    np.random.seed(0)  # noqa: NPY002 - nnU-Net draws from the global generator
    torch.manual_seed(0)
    settings = {"batch_size": 8, "oversample_foreground_percent": 0.33, "transforms": lambda channels: None}
    settings |= {"final_patch_size": patch_size, "patients": PATIENTS, **options}
    return UnregisteredDataLoader(
        dataset, LAYOUT, LabelManager({"background": 0, "heart": 1}, None), patch_size=patch_size, placement=placement,
        transpose_forward=transpose, spacing=spacing, same_patient=same_patient, **settings,
    )  # fmt: skip


def middles(batches, margin=2):
    """Return where the crops of both branches are, the follower's matching the leader's, but for those at an edge.

    For each sample, the coordinates of the middle of both crops, (2, 3), and whether it is matched.
    """
    found = []
    for _ in range(6):
        batch = next(batches)
        inside, followed = np.ones(len(batch["data"]), bool), np.zeros(len(batch["data"]), bool)
        for name, each in batches.loaders.items():
            size = np.array(batches._data.load_case(f"{name}_a")[0].shape[1:])
            lower = np.array(each.windows)
            is_slice = np.array(each.patch_size) == 1
            inside &= ((lower >= margin) & (lower + each.patch_size <= size - margin) | is_slice).all(1)
            followed |= [given.window is not None for given in each.given]
        for sample in np.flatnonzero(inside & followed):
            places = batch["data"][sample].flatten(1).mean(1).double().numpy().reshape(2, 3)
            found.append((places, batch["matched"][sample]))
    assert len(found) > 5
    return found


def part_of_extent(grid, mm):
    """Return where a place lies between the ends of the box of a scan, from 0 to 1 along x, y and z."""
    ends = np.array([[-0.5] * 3, np.array(grid.size) - 0.5]) * grid.spacing @ np.reshape(grid.direction, (3, 3)).T
    lowest, highest = np.sort(ends + grid.origin, axis=0)
    return (mm - lowest) / (highest - lowest)


@pytest.mark.parametrize("transpose", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flat", [False, True], ids=["3d", "2d"])
def test_both_branches_show_one_place_by_coordinates(write_scans, transpose, flat):
    dataset = write_scans({"CT_a": CT, "MRI_a": MRI}, transpose, SPACING[flat:])
    batches = loader(dataset, transpose=transpose, spacing=SPACING[flat:], patch_size=PATCH[flat:])
    # In 2D, the slices are those of the files, and the nearest one is taken.
    slices = 2 - transpose[0]
    for (ct, mri), matched in middles(batches):
        off = np.abs(ct - mri)
        if flat:
            assert off[slices] <= 0.5 * max(CT.spacing[slices], MRI.spacing[slices]) + 0.02
            off[slices] = 0
        assert off.max() < 0.02
        assert matched


def test_labels_of_the_follower_are_between_voxels_too(four):
    batches = loader(four, oversample_foreground_percent=1.0)
    moved = 0
    for _ in range(4):
        batch = next(batches)
        for branch, (name, each) in enumerate(batches.loaders.items()):
            for sample, given in enumerate(each.given):
                if given.window is None:
                    continue
                start, labels = given.window.start, four.load_case(given.case)[1][:]
                box = [[int(first), int(first + extent)] for first, extent in zip(start, PATCH, strict=True)]
                expected = crop_and_pad_nd(LabelsBetweenVoxels(labels, given.window.offset), box, -1)
                np.testing.assert_array_equal(batch["target"][sample, branch], expected[0], err_msg=name)
                moved += (expected != crop_and_pad_nd(labels, box, -1)).any()
    assert moved


def test_slices_that_are_thick_are_taken_as_they_are(write_scans):
    thick = (4.0, 1.2, 1.0)
    off = []
    for (ct, mri), _ in middles(loader(write_scans({"CT_a": CT, "MRI_a": MRI}, spacing=thick), spacing=thick), 1):
        off.append(np.abs(ct - mri))
    assert np.max(off, axis=0)[:2].max() < 0.02
    assert 0.1 < np.max(off, axis=0)[2] <= 2.02


def test_places_are_followed_as_far_as_the_companion_reaches(write_scans):
    half_away = replace(MRI, origin=(MRI.origin[0] + 10, MRI.origin[1] - 12, MRI.origin[2]))
    batches = loader(write_scans({"CT_a": CT, "MRI_a": half_away}), batch_size=60, oversample_foreground_percent=0.0)
    boxes = {name: batches._data.load_case(f"{name}_a")[0][channels] for name, channels in
             (("CT", slice(0, 3)), ("MRI", slice(3, 6)))}  # fmt: skip
    boxes = {name: (box.min((1, 2, 3)), box.max((1, 2, 3))) for name, box in boxes.items()}
    seen = set()
    for _ in range(4):
        batch = next(batches)
        is_follower = {n: any(g.window is not None for g in each.given) for n, each in batches.loaders.items()}
        leader, follower = sorted(is_follower, key=is_follower.get)
        for sample, (_, window) in enumerate(batches.loaders[follower].given):
            crop = batch["data"][sample][:3] if leader == "CT" else batch["data"][sample][3:]
            if not (batch["target"][sample, list(is_follower).index(leader)] >= 0).all():
                continue  # padded
            middle = crop.flatten(1).mean(1).numpy()
            depth = np.minimum(middle - boxes[follower][0], boxes[follower][1] - middle).min()
            if abs(depth) > max(SPACING):
                assert (window is not None) == (depth > 0)
                seen.add(window is not None)
    assert seen == {False, True}


def test_tilted_scans(write_scans):
    turned = replace(MRI, direction=tilted(0.2), origin=(-14.0, 3.0, 30.0))
    for (ct, mri), _ in middles(loader(write_scans({"CT_a": CT, "MRI_a": turned}))):
        assert np.linalg.norm(ct - mri) < 0.02


def test_relative_extent_needs_no_true_headers(write_scans):
    far = replace(MRI, origin=(500.0, -300.0, 33.0))
    batches = loader(write_scans({"CT_a": CT, "MRI_a": far}), placement="relative")
    for (ct, mri), matched in middles(batches):
        difference = (part_of_extent(CT, ct) - part_of_extent(far, mri)) * far.size * far.spacing
        assert np.abs(difference).max() < 0.02
        assert matched


def test_places_out_of_the_companion_are_not_matched(write_scans):
    """By coordinates the scans do not meet: the companion is cropped as any case, the forced ones on the same class."""
    far = replace(MRI, origin=(500.0, -300.0, 33.0))
    batches = loader(write_scans({"CT_a": CT, "MRI_a": far}))
    batch = next(batches)
    assert set(batch["keys"]["CT"]) == {"CT_a"}
    forced = [False] * 5 + [True] * 3
    assert batch["matched"] == forced


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_samples_of_one_patient(four, share):
    """Among the samples of a patient with both scans; by chance, half of the others have the second scan, too."""
    batches = loader(four, share, batch_size=40, oversample_foreground_percent=0.0)
    same, of_a, leaders = 0, 0, set()
    for _ in range(8):
        batch = next(batches)
        (leader,) = (
            (n for n, each in batches.loaders.items() if not any(g.case for g in each.given)) if share else ("CT",)
        )
        follower = "MRI" if leader == "CT" else "CT"
        leaders.add(leader)
        lead = np.array([case.endswith("_a") for case in batch["keys"][leader]])
        follow = np.array([case.endswith("_a") for case in batch["keys"][follower]])
        of_a += lead.sum()
        same += (lead & follow).sum()
        given = np.array([given.window is not None for given in batches.loaders[follower].given])
        assert not (given & ~lead).any()
        assert batch["matched"] == given.tolist()
        together = [[0, 1] if is_given else [] for is_given in given]
        assert batch.get("together") == (together if share else None)
    assert same / of_a == pytest.approx(share + (1 - share) / 2, abs=0.14)
    assert share == 0 or leaders == {"CT", "MRI"}


def test_branches_of_one_place_are_moved_alike(write_scans):
    """Two scans on one grid are the same image: whatever moves them, they stay that, and those of others do not."""
    dataset = write_scans({"CT_a": CT, "MRI_a": CT, "MRI_c": CT})

    def transforms(channels):
        spatial = SpatialTransform(
            (4, 4, 4), 0, False, p_rotation=1.0, rotation=(-0.5, 0.5), p_scaling=1.0, scaling=(0.7, 1.4)
        )
        return ComposeTransforms([spatial, MirrorTransform((0, 1, 2))])

    batches = loader(dataset, 0.7, patch_size=(8, 8, 8), final_patch_size=(4, 4, 4), transforms=transforms)
    kinds = set()
    for _ in range(6):
        batch = next(batches)
        followed = np.array([[given.window is not None for given in e.given] for e in batches.loaders.values()])
        ct, mri = batch["data"][:, :3], batch["data"][:, 3:]
        for sample, is_same in enumerate(followed.any(0)):
            assert torch.allclose(ct[sample], mri[sample], atol=1e-3) == is_same
            kinds.add(bool(is_same))
    assert kinds == {False, True}


def test_equal_seeds_give_equal_batches(four):
    one, other = loader(four, 0.5), loader(four, 0.5)
    first = [next(loader(four, 0.5))["data"] for _ in range(2)]
    assert torch.equal(*first)
    np.random.seed(3)  # noqa: NPY002
    expected = [next(one) for _ in range(3)]
    np.random.seed(3)  # noqa: NPY002
    for batch in expected:
        again = next(other)
        assert torch.equal(batch["data"], again["data"])
        assert batch["keys"] == again["keys"]
        assert batch["matched"] == again["matched"]


def test_what_the_log_says(four):
    assert loader(four).describe() == (
        "1 of 3 training patients have scans of several branches. In 100% of their samples, the branches show one "
        "place of one patient; places are found by coordinates (2)."
    )
    apart = loader(four, patients={name: name for name in PATIENTS})
    assert "No training patient of this fold has scans of several branches" in apart.describe()
    batch = next(apart)
    assert set(batch["keys"]["CT"]) == {"CT_a", "CT_b"}
    assert "together" not in batch


def test_a_scan_whose_place_is_not_known(four, tmp_path):
    properties = load_pickle(str(tmp_path / "MRI_a.pkl"))
    del properties["sitk_stuff"]
    write_pickle(properties, str(tmp_path / "MRI_a.pkl"))
    with pytest.raises(InputError, match="The preprocessed case MRI_a does not say where the scan lies"):
        loader(four)


def test_the_loader_is_that_of_unpaired_data_otherwise(four):
    assert issubclass(UnregisteredDataLoader, UnpairedDataLoader)
    batch = next(loader(four, 0.0, oversample_foreground_percent=1.0))
    assert batch["matched"] == [True] * 8
