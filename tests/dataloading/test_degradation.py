"""What is degraded, and how: against what each kind of damage does to scans with a known answer."""

import math

import numpy as np
import pytest
import torch

from rl_nnunet.dataloading.degradation import (
    GHOST_DISTANCE,
    KINDS,
    LARGEST_FACTOR,
    NOISE,
    REACH,
    bias_field,
    degrade_batch,
    ghosts,
    noise,
    shift,
)

SHAPES = {(1.0, 1.0): (96, 80), (6.0, 1.0, 2.0): (8, 96, 80)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", SHAPES, ids=["2d", "3d"])
def test_nothing_changes_at_severity_0(kind, spacing):
    scan = torch.randn(SHAPES[spacing])
    torch.testing.assert_close(KINDS[kind](scan, 0.0, spacing), scan)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", SHAPES, ids=["2d", "3d"])
def test_a_damaged_scan_is_another_of_the_same_form_and_the_given_one_is_untouched(kind, spacing):
    scan = torch.randn(SHAPES[spacing])
    before = scan.clone()
    damaged = KINDS[kind](scan, 1.0, spacing)
    assert damaged.shape == scan.shape
    assert damaged.dtype == scan.dtype
    assert damaged.isfinite().all()
    assert (damaged != scan).float().mean() > 0.5
    assert torch.equal(scan, before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "shift"])
def test_padding_and_what_a_mask_took_out_stay_0(kind):
    scan = torch.randn(64, 64)
    scan[:, 40:] = 0
    damaged = KINDS[kind](scan, 1.0, (1.0, 1.0))
    assert (damaged[:, 40:] == 0).all()
    assert (damaged[:, :40] != scan[:, :40]).any()


def test_leading_axes_are_damaged_alike():
    scan = torch.randn(1, 64, 64).expand(3, -1, -1)
    for kind in ("bias field", "ghosts", "shift"):
        damaged = KINDS[kind](scan, 1.0, (1.0, 1.0))
        assert torch.equal(damaged, damaged[:1].expand(3, -1, -1))


def test_noise_has_the_stated_spread():
    scan = 7 * torch.randn(400, 400)
    assert (noise(scan, 0.5, (1.0, 1.0)) - scan).std().item() == pytest.approx(0.5 * NOISE * 7, rel=0.02)


def test_a_bias_field_multiplies_within_its_range_and_is_smooth():
    scan = torch.full((120, 120), 3.0)
    scan[0, 0] = 1.0  # the lowest intensity
    factors = (bias_field(scan, 1.0, (1.0, 1.0)) - 1.0) / 2.0
    factors[0, 0] = factors[0, 1]
    assert 1 / LARGEST_FACTOR - 1e-4 <= factors.min() < 0.5
    assert 2.0 < factors.max() <= LARGEST_FACTOR + 1e-4
    # A field from one end of its range to the other over a distance of nodes, 42 mm, with a cubic's steepest slope.
    steepest = 2 * math.log(LARGEST_FACTOR) / 42 * 2
    assert max(factors.log().diff(dim=axis).abs().max().item() for axis in (0, 1)) < steepest


def test_the_lowest_intensity_has_no_bias():
    scan = torch.randn(64, 64)
    place = np.unravel_index(scan.argmin().item(), scan.shape)
    assert bias_field(scan, 1.0, (1.0, 1.0))[place] == scan[place]


def test_ghosts_stand_where_they_may_and_are_as_bright_as_the_scan():
    distances = set()
    for _ in range(40):
        scan = torch.full((160, 160), 1e-6)
        scan[80, 80] = 1.0
        damaged = ghosts(scan, 1.0, (1.0, 2.0))
        (y, x), (other_y, other_x) = (damaged > 0.9).nonzero()[[0, -1]].tolist()
        assert (y + other_y, x + other_x) == (160, 160)  # one each way
        assert (y == 80) != (x == 80)
        distances.add((80 - y) * 1.0 if x == 80 else (80 - x) * 2.0)
    assert min(distances) >= GHOST_DISTANCE[0]
    assert max(distances) <= GHOST_DISTANCE[1]
    assert len(distances) > 5


@pytest.mark.parametrize("spacing", SHAPES, ids=["2d", "3d"])
def test_a_shift_moves_by_what_it_may_in_mm_and_reflects_at_the_edge(spacing):
    shape = SHAPES[spacing]
    axes = np.meshgrid(*[np.arange(edge) for edge in shape], indexing="ij")
    center = np.array([edge // 2 for edge in shape])
    scan = torch.from_numpy(sum(axis * 1000.0**i for i, axis in enumerate(axes)))
    for severity in (0.5, 1.0):
        moved = shift(scan, severity, spacing).numpy()
        # What is in the center now has come from there:
        value, source = int(moved[tuple(center)]), []
        for _ in shape:
            source.append(value % 1000)
            value //= 1000
        steps = center - source
        length = np.linalg.norm(steps * np.array(spacing))
        assert length == pytest.approx(severity * REACH, abs=np.linalg.norm(spacing) / 2)
        # NumPy's own reflection as the reference.
        padded = np.pad(scan.numpy(), [(abs(s), abs(s)) for s in steps], mode="reflect")
        window = tuple(slice(abs(s) - s, abs(s) - s + edge) for s, edge in zip(steps, shape, strict=True))
        np.testing.assert_array_equal(moved, padded[window])


def test_a_single_slice_cannot_be_shifted_out_of_itself():
    scan = torch.randn(1, 32, 32)
    assert shift(scan, 1.0, (1.0, 100.0, 100.0)).equal(scan)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_one_modality_of_a_share_of_the_samples_is_degraded(share):
    data = torch.randn(400, 3, 12, 12)
    changed = (degrade_batch(data, share, (4.0, 4.0)) != data).flatten(2).any(2)
    assert (changed.sum(1) <= 1).all()
    assert changed.any(1).float().mean().item() == pytest.approx(share, abs=0.08)
    if share:
        assert changed.float().mean(0).min() > share / 3 - 0.08  # each channel likewise


def test_absent_modalities_stay_absent_and_only_present_ones_are_chosen():
    data = torch.randn(60, 3, 12, 12)
    data[:, 1] = 0
    data[0] = 0
    degraded = degrade_batch(data, 1.0, (4.0, 4.0))
    assert (degraded[:, 1] == 0).all()
    assert (degraded[0] == 0).all()


def test_the_scan_of_another_patient_is_that_of_the_next_sample():
    data = torch.randn(300, 2, 8, 8)
    degraded = degrade_batch(data, 1.0, (4.0, 4.0))
    following = data.roll(-1, 0)
    swapped = ((degraded == following) & (degraded != data)).flatten(2).all(2).any(1)
    assert swapped.float().mean().item() == pytest.approx(1 / (len(KINDS) + 1), abs=0.07)


def test_the_only_modality_stays_where_its_labels_are(monkeypatch):
    def misplaced(*given):
        raise AssertionError("shifted")

    monkeypatch.setitem(KINDS, "shift", misplaced)
    data = torch.randn(200, 2, 8, 8)
    data[:, 1] = 0
    degraded = degrade_batch(data, 1.0, (4.0, 4.0))
    assert not (degraded[:, 0] == data[:, 0].roll(-1, 0)).flatten(1).all(1).any()
    assert (degraded[:, 0] != data[:, 0]).flatten(1).any(1).all()


def test_a_batch_of_one_has_no_other_patient():
    data = torch.randn(1, 2, 8, 8)
    for _ in range(30):
        assert degrade_batch(data, 1.0, (4.0, 4.0)).isfinite().all()
