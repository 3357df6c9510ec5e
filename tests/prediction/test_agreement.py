"""Whether segmentations of one patient agree, against boxes whose overlap is known."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.errors import InputError
from rl_nnunet.grids import find_place, read_grid
from rl_nnunet.prediction.agreement import Agreement, agreement_of, dice_at_one_place
from rl_nnunet.prediction.patients import Patient, Scan, Target


@pytest.fixture
def segment(tmp_path):
    """Return a function that writes a segmentation with a box of each label, half a mm before the given (x, y, z)."""

    def write(name, boxes, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), size=(40, 30, 20)):
        image = sitk.Image(size, sitk.sitkUInt8)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        for label, box in boxes.items():
            first, last = (
                [
                    round((mm - 0.5 - start) / step + 0.5)
                    for mm, start, step in zip(corner, origin, spacing, strict=True)
                ]
                for corner in box
            )
            x, y, z = (slice(a, b) for a, b in zip(first, last, strict=True))
            image[x, y, z] = label
        sitk.WriteImage(image, tmp_path / f"{name}.nii.gz")
        return tmp_path / f"{name}.nii.gz"

    return write


def dice(one, other, transform):
    return dice_at_one_place(*(sitk.ReadImage(file, sitk.sitkInt16) for file in (one, other)), transform)


BOX, HALF_BESIDE = ((10, 10, 4), (20, 20, 12)), ((15, 10, 4), (25, 20, 12))
ELSEWHERE = ((30, 2, 14), (36, 8, 18))


def test_equal_segmentations_on_different_grids_agree(segment):
    ct = segment("ct", {1: BOX, 2: ELSEWHERE})
    mr = segment("mr", {1: BOX, 2: ELSEWHERE}, (0.5, 0.25, 1.0), (2.75, 1.125, -2.0), (74, 116, 22))
    assert dice(ct, mr, np.eye(4)) == 1
    assert dice(mr, ct, np.eye(4)) == 1


def test_half_an_overlap_and_a_label_that_one_lacks(segment):
    one, other = segment("one", {1: BOX}), segment("other", {1: HALF_BESIDE})
    assert dice(one, other, np.eye(4)) == pytest.approx(0.5)
    both = segment("both", {1: HALF_BESIDE, 2: ELSEWHERE})
    assert dice(one, both, np.eye(4)) == pytest.approx(0.25)


def test_the_map_leads_from_the_first_to_the_second(segment):
    one, other = segment("one", {1: BOX}), segment("other", {1: HALF_BESIDE})
    moved = np.eye(4)
    moved[0, 3] = 5
    assert dice(one, other, moved) == 1
    assert dice(other, one, moved) == 0


def test_only_what_both_scans_reach_counts(segment):
    whole = segment("whole", {1: BOX})
    part = segment("part", {1: ((10, 10, 4), (20, 20, 8))}, size=(40, 30, 8))
    assert dice(whole, part, np.eye(4)) == 1
    assert dice(part, whole, np.eye(4)) == 1
    far = segment("far", {1: ((110, 10, 4), (120, 20, 12))}, origin=(100.0, 0.0, 0.0))
    assert dice(whole, far, np.eye(4)) is None
    assert dice(segment("empty", {}), segment("nothing", {}), np.eye(4)) is None


def patient_of(files, pairing):
    grids = {name: read_grid(file) for name, file in files.items()}
    scans = {name: Scan(name, {channel: files[name]}, grids[name]) for channel, name in enumerate(files)}
    targets = [
        Target(
            scans[name],
            tuple((scans[o], find_place(grids[name], grids[o], pairing)) for o in scans if o != name),
            file.with_name(file.name.removesuffix(".nii.gz")),
        )
        for name, file in files.items()
    ]
    return Patient("p", tuple(targets))


def test_the_worst_pair_of_a_patient_is_told(segment):
    files = {
        "CT": segment("ct", {1: BOX}),
        "LGE": segment("lge", {1: BOX}),
        "MR": segment("mr", {1: HALF_BESIDE}, size=(39, 30, 20)),
    }
    assert agreement_of(patient_of(files, "physical"), ".nii.gz").used == pytest.approx(0.5)


def test_a_header_that_is_wrong_is_told(segment):
    """Boxes that overlap by accident: by relative extent, the segmentations would be the same."""
    files = {"CT": segment("ct", {1: BOX}), "MR": segment("mr", {1: ((15, 15, 9), (25, 25, 17))}, origin=(5.0, 5, 5))}
    found = agreement_of(patient_of(files, "auto"), ".nii.gz")
    assert found.used < 0.2
    assert str(found) == f"{found.used:.2f} (by relative extent 1.00)"
    assert str(agreement_of(patient_of(files, "relative"), ".nii.gz")) == "1.00"


def test_what_only_one_shows_is_no_agreement(segment):
    """Boxes that overlap by little, with nothing in what both reach: by relative extent, all would be well."""
    files = {
        "CT": segment("ct", {1: BOX}),
        "LGE": segment("lge", {1: BOX}, size=(39, 30, 20)),
        "MR": segment("mr", {1: ((45, 10, 4), (55, 20, 12))}, origin=(35.0, 0, 0)),
    }
    found = agreement_of(patient_of({name: files[name] for name in ("CT", "MR")}, "auto"), ".nii.gz")
    assert str(found) == "0.00 (by relative extent 1.00)"
    assert agreement_of(patient_of(files, "physical"), ".nii.gz").used == 0


def test_nothing_is_told_without_companions_or_anything_to_see(segment):
    files = {"CT": segment("ct", {1: BOX}), "MR": segment("mr", {1: BOX}, size=(39, 30, 20))}
    patient = patient_of(files, "physical")
    alone = Patient("p", tuple(replace(target, companions=()) for target in patient.targets))
    assert agreement_of(alone, ".nii.gz") is None
    segment("ct", {}), segment("mr", {}, size=(39, 30, 20))
    assert agreement_of(patient, ".nii.gz") is None


def test_a_segmentation_that_is_not_whole_is_not_compared(segment):
    files = {"CT": segment("ct", {1: BOX}), "MR": segment("mr", {1: BOX}, size=(39, 30, 20))}
    patient = patient_of(files, "physical")
    files["MR"].write_bytes(files["MR"].read_bytes()[:-20])
    with pytest.raises(InputError, match="mr.nii.gz"):
        agreement_of(patient, ".nii.gz")


@pytest.mark.parametrize("value", [-1024, 3000])
def test_a_scan_in_the_place_of_a_segmentation_is_not_compared(segment, value):
    files = {"CT": segment("ct", {1: BOX}), "MR": segment("mr", {1: BOX}, size=(39, 30, 20))}
    patient = patient_of(files, "physical")
    image = sitk.Cast(sitk.ReadImage(files["MR"]), sitk.sitkInt16)
    image[3, 3, 3] = value
    sitk.WriteImage(image, files["MR"])
    with pytest.raises(InputError, match="mr.nii.gz is no segmentation"):
        agreement_of(patient, ".nii.gz")


def test_little_more_by_relative_extent_is_not_worth_a_word():
    assert str(Agreement(0.8, 0.85)) == "0.80"
