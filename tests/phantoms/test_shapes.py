import numpy as np

from rl_nnunet.phantoms.shapes import Ellipsoid, Plane, Tube, spline_tube

AXIS = np.linspace(-20, 20, 41, dtype=np.float32)
POINTS = tuple(axis.ravel() for axis in np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"))


def inside(shape):
    index, distance = shape.near(POINTS, 3.0)
    mask = np.zeros(len(POINTS[0]), dtype=bool)
    mask[index[distance < 0]] = True
    return mask


def test_ellipsoid_has_its_volume():
    shape = Ellipsoid(np.zeros(3), np.eye(3), np.array([15.0, 10, 8]))
    assert abs(inside(shape).sum() / (4 / 3 * np.pi * 15 * 10 * 8) - 1) < 0.02


def test_tilted_superellipsoid_is_not_cut_by_the_box_that_is_searched():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    shape = Ellipsoid(np.zeros(3), turn, np.array([16.0, 8, 6]), exponent=4.0)
    local = np.abs(turn @ np.stack(POINTS)) / shape.radii[:, None]
    assert np.array_equal(inside(shape), (local**4).sum(0) < 1)


def test_tube_distance_is_exact_along_a_straight_line():
    tube = Tube(np.array([[0.0, 0, -10], [0, 0, 10]]), np.array([4.0, 4.0]))
    index, distance = tube.near(POINTS, 3.0)
    x, y, z = (axis[index] for axis in POINTS)
    expected = np.sqrt(x**2 + y**2 + np.maximum(np.abs(z) - 10, 0) ** 2) - 4
    assert np.allclose(distance, expected, atol=1e-4)


def test_clip_leaves_one_side_and_gives_the_cut_no_wall():
    plane = Plane(np.zeros(3), np.array([1.0, 0, 0]))
    index, distance = Ellipsoid(np.zeros(3), np.eye(3), np.full(3, 8.0), clips=(plane,)).near(POINTS, 3.0)
    assert np.isinf(distance[POINTS[0][index] < 0]).all()
    assert (distance[POINTS[0][index] > 0] < 0).any()


def test_spline_passes_through_its_control_points():
    controls = np.array([[0.0, 0, 0], [5, 1, 2], [9, -3, 4], [12, 0, 9]])
    tube = spline_tube(controls, np.array([1.0, 2, 3, 4]), samples=5)
    assert np.allclose(tube.points[::5], controls)
    assert np.allclose(tube.radii[::5], [1, 2, 3, 4])
