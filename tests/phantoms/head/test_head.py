import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from rl_nnunet.phantoms.geometry import Grid
from rl_nnunet.phantoms.head.anatomy import sample_head
from rl_nnunet.phantoms.head.cases import make_head_case
from rl_nnunet.phantoms.head.config import SEQUENCES, HeadPhantomConfig
from rl_nnunet.phantoms.head.layout import LAYOUTS, plan_head_jobs
from rl_nnunet.phantoms.head.render import render_head
from rl_nnunet.phantoms.head.tissues import HeadTissue, labels_from_head

SMALL = HeadPhantomConfig(size=64)
NCR, ED, ET = 1, 2, 4


def make(index=0, year=2021, config=SMALL, **options):
    return make_head_case(plan_head_jobs(year, index + 1, 0, 0, config, **options)[index])


@pytest.fixture(scope="module")
def case():
    return make()


@pytest.fixture(scope="module")
def low_grade():
    return make(config=dataclasses.replace(SMALL, lgg_share=1.0, lgg_enhancing_share=0.0))


def medians(case, sequence):
    # The middle of a structure only: partial volume mixes its surface with what is around.
    image = case.images[sequence]
    result = {}
    for tissue in HeadTissue:
        mask = case.tissues == tissue
        inner = ndimage.binary_erosion(mask)
        if mask.any():
            result[tissue] = np.median(image[inner if inner.sum() > 20 else mask])
    return result


def test_every_part_of_every_high_grade_tumor_has_a_plausible_volume():
    config = dataclasses.replace(SMALL, lgg_share=0.0)
    voxel_ml = (240 / 64) ** 3 / 1000
    for index in range(8):
        volumes = np.bincount(make(index, config=config).labels.ravel(), minlength=5) * voxel_ml
        assert 1 < volumes[NCR] < 50
        assert 5 < volumes[ED] < 250
        assert 2 < volumes[ET] < 70


def test_tumor_parts_are_nested():
    config = dataclasses.replace(SMALL, lgg_share=0.0)
    for index in range(6):
        labels = make(index, config=config).labels
        necrosis, core = labels == NCR, (labels == NCR) | (labels == ET)
        around_necrosis = labels[ndimage.binary_dilation(necrosis) & ~necrosis]
        assert np.mean(around_necrosis == ET) > 0.97
        around_core = labels[ndimage.binary_dilation(core) & ~core]
        assert np.mean(around_core == ED) > 0.5
        # What fills the holes of the core is the core.
        assert np.array_equal(ndimage.binary_fill_holes(core), core)


def test_core_is_one_piece(case):
    core = (case.labels == NCR) | (case.labels == ET)
    assert ndimage.label(core)[1] == 1


def test_low_grade_tumors_have_a_solid_core_that_does_not_enhance(low_grade):
    assert set(np.unique(low_grade.labels)) == {0, NCR, ED}
    enhancing = make(config=dataclasses.replace(SMALL, lgg_share=1.0, lgg_enhancing_share=1.0)).labels
    assert 0 < (enhancing == ET).sum() < 0.3 * (enhancing == NCR).sum()
    t1ce, t2 = medians(low_grade, "T1ce"), medians(low_grade, "T2")
    assert t1ce[HeadTissue.SOLID_CORE] < 0.9 * t1ce[HeadTissue.WHITE_MATTER]
    assert t2[HeadTissue.SOLID_CORE] > 1.3 * t2[HeadTissue.WHITE_MATTER]


def test_treated_patients_have_a_cavity_like_csf_beside_the_core():
    case = make(year=2024, config=dataclasses.replace(SMALL, cavity_share=1.0, lgg_share=0.0))
    assert set(np.unique(case.labels)) == {0, 1, 2, 3, 4}
    cavity = case.labels == 4
    assert set(np.unique(case.tissues[cavity])) == {HeadTissue.CAVITY}
    assert (ndimage.binary_dilation(cavity) & (case.labels == 3)).any()
    t1, _, t2, flair = (medians(case, sequence) for sequence in SEQUENCES)
    t = HeadTissue
    assert t1[t.CAVITY] < 0.6 * t1[t.WHITE_MATTER]
    assert t2[t.CAVITY] > 1.5 * t2[t.GRAY_MATTER]
    assert flair[t.CAVITY] < 0.6 * flair[t.WHITE_MATTER]


def test_second_visit_shows_the_same_patient_with_another_tumor():
    first, second, other = (make(index, 2024, dataclasses.replace(SMALL, cavity_share=1.0)) for index in range(3))
    assert np.array_equal(first.tissues > 0, second.tissues > 0)
    assert np.array_equal(first.labels == 4, second.labels == 4)
    assert not np.array_equal(first.labels == 2, second.labels == 2)
    assert not np.array_equal(first.images["T1"], second.images["T1"])
    assert not np.array_equal(first.tissues > 0, other.tissues > 0)


def test_every_sequence_is_zero_outside_of_the_brain_and_nowhere_else(case):
    brain = case.tissues != HeadTissue.OUTSIDE
    assert 900 < brain.sum() * (240 / 64) ** 3 / 1000 < 2200
    assert ndimage.label(brain)[1] == 1
    for image in case.images.values():
        assert image.dtype == np.int16
        assert np.array_equal(image > 0, brain)
        assert image.min() == 0
    assert not case.labels[~brain].any()


def test_contrasts_are_those_of_the_sequences(case):
    t1, t1ce, t2, flair = (medians(case, sequence) for sequence in SEQUENCES)
    t = HeadTissue
    for levels in (t1, t1ce):
        assert levels[t.CSF] < levels[t.NECROSIS] < levels[t.EDEMA] < levels[t.WHITE_MATTER]
        assert levels[t.GRAY_MATTER] < levels[t.WHITE_MATTER]
    assert t1[t.ENHANCING] < 0.9 * t1[t.WHITE_MATTER]
    assert t1ce[t.ENHANCING] > 1.2 * t1ce[t.WHITE_MATTER]
    for tissue in (t.EDEMA, t.NECROSIS, t.CSF):
        assert t2[tissue] > 1.3 * t2[t.GRAY_MATTER]
    assert flair[t.EDEMA] > 1.3 * flair[t.GRAY_MATTER]
    assert flair[t.CSF] < 0.7 * flair[t.WHITE_MATTER]
    assert flair[t.CSF] < flair[t.NECROSIS] < 0.8 * flair[t.EDEMA]


def test_there_are_confounders():
    cases = [make(index) for index in range(4)]
    assert any((case.tissues == HeadTissue.HYPERINTENSITY).any() for case in cases)
    vessels = [case.images["T1ce"][case.tissues == HeadTissue.VESSEL] for case in cases]
    white = [np.median(case.images["T1ce"][case.tissues == HeadTissue.WHITE_MATTER]) for case in cases]
    assert all((bright > 1.15 * normal).any() for bright, normal in zip(vessels, white, strict=True))
    assert not any(case.labels[case.tissues == HeadTissue.VESSEL].any() for case in cases)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_noise_sequence_carries_no_anatomy_and_changes_no_other(case, sequence):
    noisy = make(noise_sequence=sequence)
    assert np.array_equal(noisy.labels, case.labels)
    for name in SEQUENCES:
        assert np.array_equal(noisy.images[name], case.images[name]) == (name != sequence)
    brain = case.tissues > 0
    noise = noisy.images[sequence].astype(float)
    assert np.array_equal(noise > 0, brain)
    values, sd = noise[brain], noise[brain].std()
    for tissue in np.unique(case.tissues[brain]):
        mask = case.tissues == tissue
        assert abs(noise[mask].mean() - values.mean()) < 5 * sd / np.sqrt(mask.sum())
    neighbors = brain[:, :, 1:] & brain[:, :, :-1]
    assert abs(np.corrcoef(noise[:, :, 1:][neighbors], noise[:, :, :-1][neighbors])[0, 1]) < 0.03


def test_intensity_scales_differ():
    cases = [make(index) for index in range(6)]
    scales = [np.median(case.images["T1"][case.tissues == HeadTissue.WHITE_MATTER]) for case in cases]
    assert max(scales) > 1.5 * min(scales)


def test_sizes_show_the_same_field_of_view():
    for size in (24, 48):
        case = make(config=HeadPhantomConfig(size=size))
        assert case.grid.shape == (round(155 * size / 240), size, size)
        corner = [origin - spacing / 2 for origin, spacing in zip(case.grid.origin, case.grid.spacing, strict=True)]
        assert np.allclose(corner, (-0.5, -239.5, -0.5))


def test_anatomy_does_not_depend_on_the_grid():
    head = sample_head(np.random.default_rng(3))
    coarse = Grid((20, 24, 28), (6.0, 5.0, 4.0), (-50.0, -60.0, -50.0))
    fine = Grid((40, 48, 56), (3.0, 2.5, 2.0), coarse.origin)
    # Every second voxel of the fine grid is a voxel of the coarse one.
    assert np.array_equal(render_head(head, coarse), render_head(head, fine)[::2, ::2, ::2])


def test_brain_fits_into_the_field_of_view():
    for seed in range(10):
        head = sample_head(np.random.default_rng(seed))
        tissues = render_head(head, Grid.around((-3.0, 0.0, 0.0), (31, 48, 48), (5.0,) * 3))
        # The brainstem may be cut off at the bottom.
        assert not tissues[-1].any()
        assert not tissues[:, [0, -1]].any()
        assert not tissues[:, :, [0, -1]].any()


def test_tumors_lie_in_either_hemisphere():
    centers = [sample_head(np.random.default_rng(seed)).tumor.core.center for seed in range(20)]
    sides = {np.sign(center[0]) for center in centers}
    assert sides == {-1, 1}


@pytest.mark.parametrize(
    ("year", "expected"), [(2018, [1, 1, 4, 2, 0]), (2023, [1, 1, 3, 2, 0]), (2024, [1, 1, 3, 2, 4])]
)
def test_labels_are_those_of_the_year(year, expected):
    t = HeadTissue
    tissues = np.array([t.NECROSIS, t.SOLID_CORE, t.ENHANCING, t.EDEMA, t.CAVITY])
    layout = LAYOUTS[year]
    assert labels_from_head(tissues, layout.enhancing, layout.cavity).tolist() == expected
    healthy = np.arange(t.NECROSIS)
    assert not labels_from_head(healthy, layout.enhancing, layout.cavity).any()
