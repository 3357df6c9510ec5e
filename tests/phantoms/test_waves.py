import numpy as np

from rl_nnunet.phantoms.waves import sample_ripple, sample_warp


def points(count=20_000):
    return tuple(np.random.default_rng(0).uniform(-200, 200, (3, count)).astype(np.float32))


def test_ripple_has_mean_0_and_sd_1():
    ripple = sample_ripple(np.random.default_rng(1), (20, 40))(points())
    assert abs(ripple.mean()) < 0.05
    assert abs(ripple.std() - 1) < 0.05


def test_ripple_is_smooth():
    line = np.linspace(0, 100, 1001, dtype=np.float32)
    ripple = sample_ripple(np.random.default_rng(1), (20, 40))((line, 0 * line, 0 * line))
    # Six waves of amplitude sqrt(2 / 6) and at most 2 pi / 20 radians per mm.
    assert np.abs(np.diff(ripple)).max() < 6 * np.sqrt(1 / 3) * 2 * np.pi / 20 * 0.1


def test_warp_moves_points_by_about_its_amplitude():
    original = points()
    moved = sample_warp(np.random.default_rng(2), 3.0)(original)
    rms = np.sqrt(np.mean([(after - before) ** 2 for before, after in zip(original, moved, strict=True)]))
    assert 1 < rms < 6
    assert all(np.array_equal(before, again) for before, again in zip(original, points(), strict=True))
