"""The rotation group against its closure, coordinate arithmetic, numpy and scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from rl_nnunet.policies.rotations import (
    compose,
    inverse,
    rotate,
    rotate_all,
    rotate_to_grid,
    rotation_index,
    rotation_matrices,
    turning,
)

ALL = [(2, index) for index in range(4)] + [(3, index) for index in range(24)]


def quarter_turn(first: int, second: int, dimension: int) -> np.ndarray:
    """Turn the axis `first` towards the axis `second`."""
    matrix = np.eye(dimension, dtype=int)
    matrix[first, first] = matrix[second, second] = 0
    matrix[second, first], matrix[first, second] = 1, -1
    return matrix


@pytest.mark.parametrize(("dimension", "order"), [(2, 4), (3, 24)])
def test_group_is_the_closure_of_the_quarter_turns(dimension, order):
    generators = [quarter_turn(*axes, dimension) for axes in itertools.combinations(range(dimension), 2)]
    closure = {tuple(np.eye(dimension, dtype=int).ravel())}
    frontier = list(closure)
    while frontier:
        element = np.reshape(frontier.pop(), (dimension, dimension))
        for generator in generators:
            product = tuple((generator @ element).ravel())
            if product not in closure:
                closure.add(product)
                frontier.append(product)
    matrices = rotation_matrices(dimension)
    assert matrices.shape == (order, dimension, dimension)
    assert {tuple(matrix.ravel()) for matrix in matrices} == closure
    np.testing.assert_array_equal(matrices[0], np.eye(dimension))
    np.testing.assert_allclose(np.linalg.det(matrices), 1)
    np.testing.assert_array_equal(matrices @ matrices.transpose(0, 2, 1), np.eye(dimension)[None].repeat(order, 0))


def test_matrices_are_shared_and_cannot_be_changed():
    assert rotation_matrices(3) is rotation_matrices(3)
    with pytest.raises(ValueError, match="read-only"):
        rotation_matrices(3)[0, 0, 0] = 5


@pytest.mark.parametrize(("dimension", "index"), ALL)
def test_what_lies_at_p_moves_to_m_p(dimension, index):
    shape = (2, 3, 4)[:dimension]
    x = torch.arange(math.prod(shape)).reshape(shape)
    y = rotate(x, index, dimension)
    matrix = rotation_matrices(dimension)[index]
    for p in np.ndindex(*shape):
        centered = np.array(p) - (np.array(x.shape) - 1) / 2
        q = matrix @ centered + (np.array(y.shape) - 1) / 2
        assert y[tuple(q.astype(int))] == x[p]


@pytest.mark.parametrize(("dimension", "axes"), [(2, (0, 1)), (3, (0, 1)), (3, (0, 2)), (3, (1, 2))])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(dimension, axes, turns):
    x = torch.rand((3, 4, 5)[:dimension])
    index = rotation_index(np.linalg.matrix_power(quarter_turn(*axes, dimension), turns))
    np.testing.assert_array_equal(rotate(x, index, dimension).numpy(), np.rot90(x.numpy(), turns, axes))


@pytest.mark.parametrize(("dimension", "index"), ALL)
def test_agrees_with_an_affine_transform_of_scipy(dimension, index):
    x = torch.rand((4, 5, 6)[:dimension])
    y = rotate(x, index, dimension)
    to_input = rotation_matrices(dimension)[index].T
    offset = (np.array(x.shape) - 1) / 2 - to_input @ ((np.array(y.shape) - 1) / 2)
    expected = ndimage.affine_transform(x.numpy(), to_input, offset, output_shape=tuple(y.shape), order=1)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dimension", [2, 3])
def test_composition_and_inverse(dimension):
    x = torch.rand((2, 1, *(3, 4, 5)[:dimension]))
    rotations = range(len(rotation_matrices(dimension)))
    for i, j in itertools.product(rotations, rotations):
        both = rotate(rotate(x, j, dimension), i, dimension)
        assert torch.equal(both, rotate(x, compose(i, j, dimension), dimension))
    for i in rotations:
        assert torch.equal(rotate(rotate(x, i, dimension), inverse(i, dimension), dimension), x)
        assert rotation_index(rotation_matrices(dimension)[i]) == i


@pytest.mark.parametrize("dimension", [2, 3])
def test_rotate_all_stacks_every_rotation_and_passes_the_gradient(dimension):
    x = torch.rand((2, 3) + (4,) * dimension, dtype=torch.float64, requires_grad=True)
    every = rotate_all(x, dimension)
    assert every.shape == (len(rotation_matrices(dimension)), *x.shape)
    for index, rotated in enumerate(every):
        assert torch.equal(rotated, rotate(x, index, dimension))
    weight = torch.rand_like(every)
    (every * weight).sum().backward()
    back = sum(rotate(w, inverse(index, dimension), dimension) for index, w in enumerate(weight))
    torch.testing.assert_close(x.grad, back)


def matrices(*indices, dimension):
    return torch.tensor(rotation_matrices(dimension)[list(indices)], dtype=torch.float32)


@pytest.mark.parametrize("spatial", [(6, 6), (4, 7), (5, 5, 5), (4, 6, 6), (2, 5, 7)])
def test_rotate_to_grid_is_the_exact_rotation_stretched_to_the_grid(spatial):
    """Each map by a rotation of its own, against `rotate` and torch's interpolation, one by one."""
    dimension = len(spatial)
    count = len(rotation_matrices(dimension))
    x = torch.rand(count, 3, *spatial, dtype=torch.float64)
    mode = "bilinear" if dimension == 2 else "trilinear"
    expected = [
        functional.interpolate(rotate(one[None], index, dimension), spatial, mode=mode) for index, one in enumerate(x)
    ]
    on_grid = rotate_to_grid(x, matrices(*range(count), dimension=dimension))
    torch.testing.assert_close(on_grid, torch.cat(expected), rtol=0, atol=1e-12)
    single = rotate_to_grid(x.float(), matrices(*range(count), dimension=dimension))
    torch.testing.assert_close(single.double(), torch.cat(expected), rtol=0, atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotate_to_grid_keeps_half_precision_and_is_exact_there(dtype):
    x = torch.randn(24, 2, 4, 4, 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        turned = rotate_to_grid(x, matrices(*range(24), dimension=3))
    assert turned.dtype == dtype
    expected = torch.stack([rotate(one, index, 3) for index, one in enumerate(x)])
    torch.testing.assert_close(turned, expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize(
    ("spatial", "axes"), [((4, 4, 4), (0, 1, 2)), ((2, 5, 5), (1, 2)), ((2, 3, 4), ()), ((3, 3), (0, 1))]
)
def test_rotations_that_exchange_equal_extents_are_exact(spatial, axes):
    chosen = turning(axes, len(spatial))
    x = torch.randn(len(chosen), 2, *spatial, requires_grad=True)
    weight = torch.randn_like(x)
    on_grid = rotate_to_grid(x, matrices(*chosen, dimension=len(spatial)), axes)
    assert torch.equal(on_grid, torch.stack([rotate(one, i, len(spatial)) for one, i in zip(x, chosen, strict=True)]))
    (on_grid * weight).sum().backward()
    back = [rotate(one, inverse(i, len(spatial)), len(spatial)) for one, i in zip(weight, chosen, strict=True)]
    assert torch.equal(x.grad, torch.stack(back))


def test_gradient_of_rotate_to_grid_is_the_rotation_back():
    x = torch.rand(24, 2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand_like(x)
    (rotate_to_grid(x, matrices(*range(24), dimension=3)) * weight).sum().backward()
    torch.testing.assert_close(x.grad, torch.stack([rotate(w, inverse(i, 3), 3) for i, w in enumerate(weight)]))


@pytest.mark.parametrize("dimension", [2, 3])
def test_some_rotations_of_all(dimension):
    x = torch.rand((2,) + (4,) * dimension)
    assert torch.equal(rotate_all(x, dimension, [3, 1]), rotate_all(x, dimension)[[3, 1]])


@pytest.mark.parametrize(
    ("axes", "dimension", "count"),
    [((0, 1, 2), 3, 24), ((1, 2), 3, 8), ((0, 2), 3, 8), ((), 3, 4), ((0, 1), 2, 4), ((), 2, 2)],
)
def test_turning_some_axes_is_the_subgroup_that_leaves_the_others_in_place(axes, dimension, count):
    chosen = turning(axes, dimension)
    assert len(chosen) == count
    assert chosen == sorted(chosen)
    assert {compose(i, j, dimension) for i in chosen for j in chosen} == set(chosen)
    others = [axis for axis in range(dimension) if axis not in axes]
    for index, matrix in enumerate(rotation_matrices(dimension)):
        stays = all(abs(matrix[axis, axis]) == 1 for axis in others if len(axes) > 1)
        if axes:
            assert (index in chosen) == stays
        else:
            assert (index in chosen) == (np.abs(matrix) == np.eye(dimension)).all()


def test_rotate_to_grid_does_not_crop():
    """A ramp along the long axis keeps its range and its mean after it was turned onto the short one."""
    x = torch.linspace(0, 1, 32).expand(1, 1, 8, 32)
    on_grid = rotate_to_grid(x, matrices(rotation_index([[0, -1], [1, 0]]), dimension=2))
    assert on_grid.shape == x.shape
    assert on_grid.max() > 0.9
    assert on_grid.min() < 0.1
    torch.testing.assert_close(on_grid.mean(), x.mean())


def test_labels_and_half_precision_are_rotated_too():
    for dtype in (torch.uint8, torch.bool, torch.float16, torch.bfloat16):
        x = (torch.rand(3, 3, 3) * 5).to(dtype)
        assert torch.equal(rotate(rotate(x, 7, 3), inverse(7, 3), 3), x)


def test_what_is_no_rotation_is_refused():
    for dimension in (0, 1, 4):
        with pytest.raises(ValueError, match="2 and 3 dimensions"):
            rotation_matrices(dimension)
    for index in (-1, 24):
        with pytest.raises(ValueError, match="no rotation"):
            rotate(torch.zeros(2, 2, 2), index, 3)
    with pytest.raises(ValueError, match="no rotation"):
        compose(0, 4, 2)
    with pytest.raises(ValueError, match="at least 3 axes"):
        rotate(torch.zeros(2, 2), 0, 3)
    with pytest.raises(ValueError, match="need 2 3D rotations"):
        rotate_to_grid(torch.zeros(2, 1, 2, 2, 2), torch.eye(3)[None])
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        turning((0, 1), 1)
    with pytest.raises(ValueError, match="extents must agree"):
        rotate_all(torch.zeros(2, 2, 3), 3)
    for matrix in (-np.eye(3), np.eye(2) * 2, np.eye(3) * 1.5, np.eye(4), [[0, 1], [1, 0]], [1, 0, 0, 1]):
        with pytest.raises(ValueError, match="Not a rotation"):
            rotation_index(matrix)
