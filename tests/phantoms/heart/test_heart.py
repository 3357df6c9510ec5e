import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from rl_nnunet.phantoms.geometry import Grid, cube_rotations, rotate_array
from rl_nnunet.phantoms.heart.anatomy import sample_heart
from rl_nnunet.phantoms.heart.cases import make_heart_case, make_heart_pair
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.grids import NOMINAL_CENTER
from rl_nnunet.phantoms.heart.render import render_heart
from rl_nnunet.phantoms.heart.tissues import CLASS_NAMES, RAW_LABELS, labels_from_heart, raw_labels

SMALL = HeartPhantomConfig(size=48)
# Milliliters within which every structure of every phantom must lie.
VOLUMES_ML = {
    "LV": (30, 260),
    "RV": (60, 320),
    "LA": (30, 160),
    "RA": (25, 180),
    "Myo": (50, 280),
    "AO": (15, 110),
    "PA": (15, 120),
}


def labels_of(seed, size=48):
    spacing = (165 / size,) * 3
    grid = Grid.around(NOMINAL_CENTER, (size,) * 3, spacing)
    return labels_from_heart(render_heart(sample_heart(np.random.default_rng(seed)), grid))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_raw_labels_are_those_of_mmwhs():
    assert RAW_LABELS == {"LV": 500, "RV": 600, "LA": 420, "RA": 550, "Myo": 205, "AO": 820, "PA": 850}
    assert raw_labels(np.arange(8, dtype=np.uint8)).tolist() == [0, 500, 600, 420, 550, 205, 820, 850]


@pytest.mark.parametrize("seed", range(12))
def test_every_structure_has_a_plausible_volume(seed):
    labels = labels_of(seed)
    voxel_ml = (165 / 48) ** 3 / 1000
    for name, (low, high) in VOLUMES_ML.items():
        assert low < (labels == CLASS_NAMES.index(name)).sum() * voxel_ml < high, name


@pytest.mark.parametrize("seed", range(6))
def test_every_structure_is_one_piece(seed):
    labels = labels_of(seed, 64)
    for label in range(1, 8):
        pieces, count = ndimage.label(labels == label, np.ones((3, 3, 3)))
        largest = np.bincount(pieces.ravel())[1:].max() if count else 0
        assert largest > 0.85 * (labels == label).sum(), CLASS_NAMES[label]


@pytest.mark.parametrize("seed", range(6))
def test_myocardium_encloses_the_left_ventricle(seed):
    labels = labels_of(seed)
    ventricle = labels == CLASS_NAMES.index("LV")
    neighbors = labels[ndimage.binary_dilation(ventricle) & ~ventricle]
    share = np.bincount(neighbors, minlength=8) / len(neighbors)
    assert share[CLASS_NAMES.index("Myo")] > 0.7
    # It is open at its two valves, and nowhere to the right side or the lung.
    assert share[CLASS_NAMES.index("LA")] > 0.01
    assert share[CLASS_NAMES.index("AO")] > 0.01
    assert share[CLASS_NAMES.index("RV")] < 0.02


@pytest.mark.parametrize(("first", "second"), [("RA", "RV"), ("RV", "PA"), ("LA", "LV"), ("LV", "AO"), ("RV", "Myo")])
def test_neighbors_touch(first, second):
    for seed in range(4):
        labels = labels_of(seed)
        around = ndimage.binary_dilation(labels == CLASS_NAMES.index(first))
        assert (around & (labels == CLASS_NAMES.index(second))).any()


@pytest.mark.parametrize("seed", range(4))
def test_structures_lie_where_they_belong(seed):
    labels = labels_of(seed)
    z, y, x = (
        dict(zip(CLASS_NAMES[1:], axis, strict=True))
        for axis in np.transpose(ndimage.center_of_mass(labels > 0, labels, range(1, 8)))
    )
    assert x["RA"] < x["RV"] < x["LV"]
    assert y["RV"] < y["LV"] < y["LA"]
    assert z["LV"] < z["LA"] < z["PA"]
    assert z["LV"] < z["AO"]


def test_no_rotation_of_the_cube_maps_a_heart_onto_itself():
    labels = labels_of(0)
    for rotation in cube_rotations()[1:]:
        turned = rotate_array(labels, rotation)
        assert np.mean([dice(labels == c, turned == c) for c in range(1, 8)]) < 0.5


def test_hearts_differ():
    assert dice(labels_of(0) == 1, labels_of(1) == 1) < 0.95


def test_anatomy_does_not_depend_on_the_grid():
    heart = sample_heart(np.random.default_rng(3))
    coarse = Grid((20, 24, 28), (6.0, 5.0, 4.0), (-40.0, -60.0, -50.0))
    fine = Grid((40, 48, 56), (3.0, 2.5, 2.0), coarse.origin)
    # Every second voxel of the fine grid is a voxel of the coarse one.
    assert np.array_equal(render_heart(heart, coarse), render_heart(heart, fine)[::2, ::2, ::2])


def test_ct_is_in_hounsfield_units():
    case = make_heart_case(0, "ct", 1001, config=SMALL)
    assert case.image.dtype == np.int16
    medians = [np.median(case.image[case.labels == c]) for c in range(1, 8)]
    assert 60 < medians[4] < 160
    assert all(200 < medians[i] < 500 for i in (0, 1, 2, 3, 5, 6))
    assert medians[0] > medians[1]
    assert case.image.min() < -900
    assert case.image.max() > 450


def test_mr_is_bright_in_blood_and_never_negative():
    case = make_heart_case(0, "mr", 1001, config=dataclasses.replace(SMALL, mr_noise=200))
    assert case.image.dtype == np.int16
    assert case.image.min() >= 0
    medians = [np.median(case.image[case.labels == c]) for c in range(1, 8)]
    assert medians[4] < min(medians[:4])


def test_intensity_alone_does_not_tell_the_chambers_apart():
    case = make_heart_case(0, "mr", 1001, config=SMALL)
    blood = (case.image > 400) & (case.image < 700)
    assert np.mean(case.labels[blood] == 0) > 0.2


def test_noise_changes_the_mr_only():
    quiet, loud = (dataclasses.replace(SMALL, mr_noise=sd) for sd in (0, 100))
    first, second = (make_heart_case(1, "ct", 1001, config=config) for config in (quiet, loud))
    assert np.array_equal(first.image, second.image)
    first, second = (make_heart_case(1, "mr", 1001, config=config) for config in (quiet, loud))
    assert np.array_equal(first.labels, second.labels)
    bright = first.labels == 1
    difference = second.image[bright].astype(float) - first.image[bright]
    assert 90 < difference.std() < 110


def test_paired_cases_show_one_heart_and_others_do_not():
    def structures(paired):
        cases = [make_heart_case(2, modality, 1001, paired, config=SMALL) for modality in ("ct", "mr")]
        return [_sampled_on(Grid.around(NOMINAL_CENTER, (40,) * 3, (3.0,) * 3), case) for case in cases]

    ct, mr = structures(paired=True)
    assert np.mean([dice(ct == c, mr == c) for c in range(1, 8)]) > 0.88
    assert dice(ct > 0, mr > 0) > 0.9
    ct, mr = structures(paired=False)
    assert np.mean([dice(ct == c, mr == c) for c in range(1, 8)]) < 0.85


def test_paired_hearts_are_the_same_to_the_voxel_where_grids_are():
    ct, mr = (make_heart_case(2, modality, 1001, paired=True, config=SMALL) for modality in ("ct", "mr"))
    assert ct.grid != mr.grid
    config = HeartPhantomConfig(size=128)
    fine_ct, fine_mr = (make_heart_case(2, modality, 1001, paired=True, config=config) for modality in ("ct", "mr"))
    grid = Grid.around(NOMINAL_CENTER, (60,) * 3, (2.0,) * 3)
    a, b = _sampled_on(grid, fine_ct), _sampled_on(grid, fine_mr)
    assert all(dice(a == c, b == c) > 0.9 for c in range(1, 8))


def test_rotated_case_is_the_unrotated_one_turned():
    plain = make_heart_case(4, "mr", 1001, paired=True, config=SMALL)
    turned = make_heart_case(4, "mr", 1001, paired=True, rotate=True, config=SMALL)
    undo = turned.rotation.T
    assert not np.array_equal(turned.rotation, np.eye(3))
    assert np.array_equal(rotate_array(turned.image, undo), plain.image)
    assert np.array_equal(rotate_array(turned.labels, undo), plain.labels)
    assert turned.grid.shape == turned.image.shape
    assert sorted(turned.grid.spacing) == sorted(plain.grid.spacing)


def test_make_heart_pair_is_registered_and_deterministic():
    pair, again = make_heart_pair(7, size=32, rotate_mr=True), make_heart_pair(7, size=32, rotate_mr=True)
    for field in dataclasses.fields(pair):
        assert np.array_equal(getattr(pair, field.name), getattr(again, field.name))
    assert pair.ct.shape == pair.mr.shape == pair.ct_labels.shape == (32, 32, 32)
    assert np.array_equal(rotate_array(pair.ct_labels, pair.rotation), pair.mr_labels)
    assert set(np.unique(pair.ct_labels)) == set(range(8))


def test_make_heart_pair_takes_a_shape_and_does_not_rotate_unless_told():
    pair = make_heart_pair(np.random.default_rng(0), size=(16, 24, 32))
    assert pair.mr.shape == (16, 24, 32)
    assert np.array_equal(pair.rotation, np.eye(3))
    assert np.array_equal(pair.ct_labels, pair.mr_labels)


def _sampled_on(grid, case):
    index = []
    for axis in range(3):
        mm = grid.origin[axis] + np.arange(grid.shape[axis]) * grid.spacing[axis]
        nearest = np.rint((mm - case.grid.origin[axis]) / case.grid.spacing[axis]).astype(int)
        index.append(np.clip(nearest, 0, case.grid.shape[axis] - 1))
    return case.labels[np.ix_(*index)]
