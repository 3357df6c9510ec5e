"""A channel that nnU-Net normalizes as CT, though its values are no Hounsfield units, gets a notice."""

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.dataset_conversion import hounsfield
from rl_nnunet.phantoms import make_phantom
from rl_nnunet.scans import read_image

CASES = ("ct_train_1001", "ct_train_1002", "ct_train_1003")


@pytest.fixture
def convert(run_mmwhs, run_unpaired, mmwhs):
    """Return a function that changes the values of the three CT scans and converts them as a channel."""

    def convert_changed(function, channel):
        for case in CASES:
            path = str(mmwhs / "ct_train" / f"{case}_image.nii.gz")
            image = sitk.ReadImage(path)
            changed = sitk.GetImageFromArray(function(sitk.GetArrayFromImage(image)))
            changed.CopyInformation(image)
            sitk.WriteImage(changed, path)
        stem = f"{mmwhs}/ct_train/{{case}}"
        branch = f"CT={stem}_image.nii.gz:{stem}_label.nii.gz"
        values = "heart=205,420,500,550,600,820,850"
        return run_unpaired("--branch", branch, "--labels", values, "--channels", f"CT={channel}")

    return convert_changed


def to_soft_tissue_window(values):
    return np.clip(values, -60, 240)


def to_standard_deviations(values):
    return (values / values.std()).astype(np.float32)


@pytest.mark.parametrize("channel", ["CT", "ct"])
@pytest.mark.parametrize(
    ("function", "reason"),
    [(lambda v: v + 1024, "below water"), (np.abs, "below water"), (to_standard_deviations, "within 100")],
)
def test_notice_names_the_cases(function, reason, channel, convert):
    outcome = convert(function, channel)
    assert outcome.code == 0, outcome.err
    (notice,) = [line for line in outcome.out.splitlines() if "Hounsfield" in line]
    assert notice.startswith(f"Notice: nnU-Net will normalize the channel {channel} as CT")
    assert reason in notice
    assert notice.endswith(": " + ", ".join(f"CT_{case}" for case in CASES) + ".")


@pytest.mark.parametrize(
    ("function", "channel"), [(np.copy, "CT"), (to_soft_tissue_window, "CT"), (np.abs, "MR"), (np.abs, "CTA")]
)
def test_no_false_alarm(function, channel, convert):
    outcome = convert(function, channel)
    assert outcome.code == 0, outcome.err
    assert "Hounsfield" not in outcome.out


def test_no_false_alarm_on_phantoms(run, run_unpaired, tmp_path):
    assert run(make_phantom.main, "heart", "-o", tmp_path / "hearts", "--cases", 4, "--size", 16, "-np", 1).code == 0
    stem = f"{tmp_path}/hearts/ct_train/{{case}}"
    branch = f"CT={stem}_image.nii.gz:{stem}_label.nii.gz"
    outcome = run_unpaired("--branch", branch, "--labels", "heart=205,420,500,550,600,820,850")
    assert outcome.code == 0, outcome.err
    assert "Hounsfield" not in outcome.out


def test_no_false_alarm_on_a_real_heart(real_heart):
    image = read_image(real_heart / "case0_ct.nii.gz")
    assert not hounsfield.why_impossible(image)
    assert not hounsfield.why_impossible(sitk.Clamp(image, lowerBound=-160, upperBound=240))
    assert hounsfield.why_impossible(image + 1100)
