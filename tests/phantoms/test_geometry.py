import numpy as np
import pytest

from rl_nnunet.phantoms.geometry import Grid, cube_rotations, random_small_rotation, rotate_array, rotate_grid


def test_cube_rotations_are_the_24_and_form_a_group():
    rotations = cube_rotations()
    assert rotations.shape == (24, 3, 3)
    assert np.array_equal(rotations[0], np.eye(3))
    known = {matrix.tobytes() for matrix in rotations}
    assert len(known) == 24
    assert all((a @ b).tobytes() in known for a in rotations for b in rotations)


@pytest.mark.parametrize("matrix", cube_rotations())
def test_rotate_array_moves_every_voxel_where_the_matrix_says(matrix):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    turned = rotate_array(array, matrix)
    middle, turned_middle = (np.subtract(shape, 1) / 2 for shape in (array.shape, turned.shape))
    for index in np.ndindex(*array.shape):
        target = np.rint(matrix @ (index - middle) + turned_middle).astype(int)
        assert turned[tuple(target)] == array[index]
    assert np.array_equal(rotate_array(turned, matrix.T), array)


@pytest.mark.parametrize("matrix", cube_rotations()[5:8])
def test_rotate_grid_keeps_the_middle_and_fits_the_array(matrix):
    grid = Grid((2, 3, 4), (5.0, 2.0, 1.0), (10.0, 20.0, 30.0))
    turned = rotate_grid(grid, matrix)
    assert turned.shape == rotate_array(np.zeros(grid.shape), matrix).shape
    middles = [np.array(g.origin) + (np.array(g.shape) - 1) / 2 * g.spacing for g in (grid, turned)]
    assert np.allclose(*middles)


def test_small_rotations_are_rotations_of_at_most_the_angle():
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix = random_small_rotation(rng, 20)
        assert np.allclose(matrix @ matrix.T, np.eye(3))
        assert np.linalg.det(matrix) > 0
        assert np.degrees(np.arccos((np.trace(matrix) - 1) / 2)) <= 20 + 1e-6
