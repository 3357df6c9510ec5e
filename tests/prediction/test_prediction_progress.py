"""What the command says of each case, and what is left and done again when it is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.prediction.agreement import dice_at_one_place

CASES = [f"p{number:02d}" for number in range(1, 13)]


def segmentations(folder):
    return sorted(path.name for path in folder.glob("p*.nii.gz"))


def rows_of(printed):
    """Return the cells of the table at the end, by case."""
    lines = printed[printed.index("case  ") :].splitlines()
    return {cells[0]: cells[1:] for cells in (re.split(r" {2,}", line) for line in lines[1:]) if len(cells) > 2}


def test_the_table_names_scans_pairing_seconds_and_failures(patient, predict, make_scan):
    other = make_scan(1, size=(11, 15, 6), spacing=(1.7, 1.2, 4.0), origin=(-6.0, 5.0, 26.0), offset=400)
    sitk.WriteImage(other, patient.images / "p1_0001.nii.gz")
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    (patient.images / "p3_0000.nii.gz").write_bytes(b"no image")
    outcome = predict(patient.model, patient.images, patient.output)
    assert outcome.code == 2
    rows = rows_of(outcome.out)
    assert list(rows) == ["p1", "p2", "p3"]
    assert rows["p1"][:2] == ["CT, MR", "physical"]
    assert rows["p2"][:2] == ["CT", "–"]
    assert all(float(rows[case][2]) > 0 for case in ("p1", "p2"))
    assert rows["p3"][2] == "–"
    assert "p3_0000.nii.gz is not a readable image" in rows["p3"][-1]
    said = [line for line in outcome.out.splitlines() if re.match(r"p\d: ", line)]
    assert [line[:4] for line in said] == ["p1: ", "p2: "]
    assert said[0].count("with") == 2
    assert said[1] == "p2: CT"


def test_the_table_tells_how_far_scans_agree(patient, predict, make_scan):
    assert "agreement" not in predict(patient.model, patient.images, patient.root / "one_grid").out
    other = make_scan(1, size=(11, 15, 6), spacing=(1.7, 1.2, 4.0), origin=(-6.0, 5.0, 26.0), offset=400)
    sitk.WriteImage(other, patient.images / "p1_0001.nii.gz")
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    printed = predict(patient.model, patient.images, patient.output).out
    assert re.search(r"seconds +agreement", printed)
    files = [patient.output / branch / "p1.nii.gz" for branch in ("CT", "MR")]
    images = [sitk.ReadImage(file, sitk.sitkInt16) for file in files]
    expected = min(dice_at_one_place(*pair, np.eye(4)) for pair in (images, images[::-1]))
    rows = rows_of(printed)
    assert rows["p1"][3].startswith(f"{expected:.2f}")
    assert rows["p2"][3] == "–"
    alone = predict(patient.model, patient.images, patient.root / "alone", "--pairing", "none").out
    assert "agreement" not in alone
    files[0].write_bytes(b"")  # left by another run
    again = predict(patient.model, patient.images, patient.output, "--continue_prediction")
    assert again.code == 0, again.err
    assert "agreement" not in again.out


def test_unforeseen_failures_stop_no_other_case(patient, predict, make_scan, monkeypatch):
    """What nnU-Net's preprocessing does not expect is noted with its kind, and its traceback is shown."""
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    from rl_nnunet.prediction.preprocessing import Preprocessing

    real = Preprocessing.__call__

    def unforeseen(self, target, previous):
        if target.output.name == "p1":
            raise ZeroDivisionError("division by zero")
        return real(self, target, previous)

    monkeypatch.setattr(Preprocessing, "__call__", unforeseen)
    outcome = predict(patient.model, patient.images, patient.output)
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert "p1_0000.nii.gz cannot be segmented (ZeroDivisionError: division by zero)" in outcome.err.splitlines()[-1]
    assert (patient.output / "p2.nii.gz").is_file()


def test_one_bar_over_the_cases(patient, run, make_scan):
    from rl_nnunet.prediction.predict import main

    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    words = ("-i", patient.images, "-o", patient.output, "-m", patient.model, "-f", 0, "-device", "cpu")
    outcome = run(main, *words, "-npp", 0, "-nps", 0, "--disable_tta")
    assert outcome.code == 0, outcome.err
    bars = [piece for piece in re.split(r"[\r\n]", outcome.err) if "|" in piece]
    assert all(bar.startswith("Predicting:") for bar in bars)
    assert "2/2" in bars[-1]


def test_what_is_there_is_told_apart(patient, predict, make_scan):
    assert predict(patient.model, patient.images, patient.output).code == 0
    sitk.WriteImage(make_scan(8), patient.images / "p2_0000.nii.gz")
    left = patient.output / ".unfinished_p1.npz"
    left.write_bytes(b"half")
    rows = rows_of(predict(patient.model, patient.images, patient.output, "--continue_prediction").out)
    assert rows["p1"][2:] == ["–", "there already"]
    assert rows["p2"][2] != "–"
    assert not left.exists()


@pytest.mark.slow
def test_killed_in_the_middle(patient, make_scan):
    """SIGKILL with some cases done and some not; the next run leaves those, and makes the others."""
    for number, name in enumerate(CASES):
        sitk.WriteImage(make_scan(number), patient.images / f"{name}_0000.nii.gz")
    for channel in range(2):
        (patient.images / f"p1_{channel:04d}.nii.gz").unlink()
    (patient.images / "p99_0000.nii.gz").write_bytes(b"no image")
    command = [Path(sys.executable).with_name("rl_nnunet_predict"), "-i", patient.images, "-m", patient.model]
    flags = ["-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta", "--save_probabilities"]
    whole = patient.root / "whole"
    assert subprocess.run([*command, *flags, "-o", whole], capture_output=True).returncode == 2

    with subprocess.Popen([*command, *flags, "-o", patient.output], stdout=subprocess.DEVNULL) as process:
        while len(segmentations(patient.output)) < 2 and process.poll() is None:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    done = segmentations(patient.output)
    assert 2 <= len(done) < len(CASES)
    time.sleep(1)  # its workers end
    assert segmentations(patient.output) == done
    times = {name: os.stat(patient.output / name).st_mtime_ns for name in done}

    again = subprocess.run(
        [*command, *flags, "-o", patient.output, "--continue_prediction"], capture_output=True, text=True
    )
    assert again.returncode == 2
    assert "p99_0000.nii.gz is not a readable image" in again.stderr.splitlines()[-1]
    assert {name: os.stat(patient.output / name).st_mtime_ns for name in done} == times
    assert sorted(path.name for path in patient.output.iterdir()) == sorted(path.name for path in whole.iterdir())
    for name in CASES:
        file = f"{name}.nii.gz"
        assert (patient.output / file).read_bytes() == (whole / file).read_bytes()
    rows = rows_of(again.stdout)
    kept = {f"{case}.nii.gz" for case, cells in rows.items() if cells[-1] == "there already"}
    assert kept == set(done)
