"""Where a place of one scan lies in another one, against images whose values are their own coordinates."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from coordinate_scans import CT, STRAIGHT, coordinates, preprocess, tilted

from rl_nnunet.errors import InputError
from rl_nnunet.grids import Grid, pair, preprocessed_affine, read_grid, relative_map

FILES = (Path("ct.nii.gz"), Path("mr.nii.gz"))


@pytest.mark.parametrize("transpose", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("direction", [STRAIGHT, tilted()], ids=["straight", "tilted"])
@pytest.mark.parametrize("flat", [False, True], ids=["3d", "2d"])
def test_preprocessed_index_leads_to_its_place(transpose, direction, flat):
    """What nnU-Net has cropped, transposed and resampled still holds coordinates, but for its edges."""
    grid = replace(CT, direction=direction)
    spacing = [2.9, 1.3, 0.9]
    images = coordinates(grid)
    images[:, :2] = images[:, :, :, -3:] = 0  # nnU-Net crops it
    data, _, properties = preprocess(images, None, grid, transpose, spacing[flat:])
    affine = preprocessed_affine(properties, data.shape[1:], list(transpose))
    inner = [range(2, extent - 2) for extent in data.shape[1:]]
    index = np.array([(*place, 1) for place in itertools.product(*inner)])
    values = np.array([data[(slice(None), *place[:3])] for place in index])
    np.testing.assert_allclose(index @ affine[:3].T, values, atol=1e-3)


def test_relative_extent_in_closed_form():
    mr = Grid((40, 8, 6), (0.5, 3.0, 8.0), (100.0, 100.0, 100.0), STRAIGHT)
    mapped = relative_map(CT, mr) @ CT.affine
    np.testing.assert_allclose(mapped @ [-0.5, -0.5, -0.5, 1], mr.affine @ [-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(mapped @ [19.5, 15.5, 11.5, 1], mr.affine @ [39.5, 7.5, 5.5, 1])
    np.testing.assert_allclose(mapped @ [9.5, 3.5, 8.5, 1], mr.affine @ [19.5, 1.5, 4.0, 1])


def test_relative_extent_is_physical_where_the_boxes_are_the_same():
    finer = Grid((40, 8, 24), (0.5, 3.0, 2.0), (-10.25, 5.75, 29.0), STRAIGHT)
    np.testing.assert_allclose(relative_map(CT, finer), np.eye(4), atol=1e-9)


@pytest.mark.parametrize("code", ["LPS", "RAS", "SRA", "AIL"])
def test_relative_extent_does_not_depend_on_the_axis_order(code):
    image = sitk.Image(40, 8, 6, sitk.sitkUInt8)
    image.SetSpacing((0.5, 3.0, 8.0))
    image.SetDirection(tilted(0.2))
    turned = sitk.DICOMOrient(image, code)
    grids = [Grid(i.GetSize(), i.GetSpacing(), i.GetOrigin(), i.GetDirection()) for i in (image, turned)]
    np.testing.assert_allclose(*(relative_map(CT, grid) for grid in grids), atol=1e-9)


@pytest.mark.parametrize(
    ("change", "frames", "pairing", "placement"),
    [
        ({}, ("", ""), "auto", "by coordinates, because 100%"),
        ({"origin": (4.5, 5.0, 30.0)}, ("", ""), "auto", "assumption"),
        ({"origin": (500.0, 5.0, 30.0)}, ("", ""), "auto", "by relative extent, because their boxes do not overlap"),
        ({}, ("1.2", "1.2"), "auto", "by coordinates, because they share a frame"),
        ({"origin": (500.0, 5.0, 30.0)}, ("1.2", "1.2"), "auto", "by coordinates, because they share a frame"),
        ({}, ("1.2", "1.3"), "auto", "by relative extent, because their frames of reference differ"),
        ({}, ("1.2", ""), "auto", "assumption"),
        ({}, ("1.2", "1.3"), "physical", "by coordinates"),
        ({}, ("1.2", "1.2"), "relative", "by relative extent"),
    ],
)
def test_pairing_says_what_it_does(change, frames, pairing, placement):
    other = replace(CT, spacing=(1.1, 1.5, 4.0), **change)
    target, companion = (
        replace(g, frame_of_reference=frame) for g, frame in zip((CT, other), frames, strict=True)
    )  # fmt: skip
    found = pair(target, companion, pairing, FILES)
    assert placement in found.description
    expected = np.eye(4) if found.description.startswith("by coordinates") else relative_map(target, companion)
    np.testing.assert_array_equal(found.transform, expected)


def test_scans_that_do_not_overlap_are_not_paired_by_coordinates():
    with pytest.raises(InputError, match=r"ct\.nii\.gz and mr\.nii\.gz do not overlap"):
        pair(CT, replace(CT, origin=(500.0, 0.0, 0.0)), "physical", FILES)


def test_share_inside_is_that_of_the_volumes():
    half = replace(CT, origin=(CT.origin[0] + 10, *CT.origin[1:]))
    assert CT.share_inside(half) == pytest.approx(0.5, abs=0.1)
    assert CT.share_inside(replace(CT, direction=tilted(), origin=(1e4, 0, 0))) == 0


def test_one_grid_is_told_from_two():
    assert CT.is_same_as(replace(CT, origin=(-10.00001, 5.0, 30.0)))
    assert not CT.is_same_as(replace(CT, origin=(-9.0, 5.0, 30.0)))  # nnU-Net's reader only warns of it
    assert not CT.is_same_as(replace(CT, direction=tilted()))
    assert not CT.is_same_as(replace(CT, size=(20, 16, 11)))


def test_grid_is_that_of_the_header(tmp_path):
    image = sitk.Image(CT.size, sitk.sitkInt16)
    image.SetSpacing(CT.spacing)
    image.SetOrigin(CT.origin)
    sitk.WriteImage(image, tmp_path / "ct.nii.gz")
    assert read_grid(tmp_path / "ct.nii.gz") == CT
    np.testing.assert_allclose(CT.affine @ [3, 2, 1, 1], [*image.TransformIndexToPhysicalPoint((3, 2, 1)), 1])
