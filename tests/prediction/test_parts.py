"""One prediction on several devices: what each gets, and what is said."""

import sys

import pytest
import SimpleITK as sitk

from rl_nnunet import command_queue
from rl_nnunet.command_queue import Place
from rl_nnunet.errors import InputError
from rl_nnunet.prediction.parts import part_of, predict_in_parts

NAMES = [f"p{number}" for number in range(7)]


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Let each part be a line of the shell, in which $1 is its -part_id and $2 the -num_parts."""
    python = (
        tmp_path / "python"
    )  # called as "python -m MODULE LINE -device DEVICE -num_parts N -part_id I --disable..."
    python.write_text('#!/bin/sh\nexec /bin/sh -c "$3" sh "$9" "$7"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(command_queue, "POLL_S", 0.01)


def devices(count):
    return [Place(f"GPU {number}", ("-device", "cuda")) for number in range(count)]


@pytest.mark.parametrize("part", [0, 1])
def test_parts_of_a_part_share_its_cases(shell, tmp_path, part):
    """The second machine of two, with three devices: parts of a part, which rl_nnunet_predict takes as [i::n]."""
    predict_in_parts([f'echo "$1 $2" >> {tmp_path}/parts'], NAMES, devices(3), part=part, parts=2, allow_tqdm=False)
    found = [tuple(map(int, line.split())) for line in (tmp_path / "parts").read_text().splitlines()]
    assert sorted(name for i, n in found for name in NAMES[i::n]) == NAMES[part::2]


def test_no_more_processes_than_cases(shell, tmp_path):
    predict_in_parts([f"echo $1 >> {tmp_path}/parts"], NAMES[:2], devices(4), allow_tqdm=False)
    assert sorted((tmp_path / "parts").read_text().split()) == ["0", "1"]


def test_what_a_part_says_is_shown_when_it_has_ended(shell, capfd):
    line = 'echo "p$1: CT"; sleep 0.0$1; echo "table of $1"'
    predict_in_parts([line], NAMES[:2], devices(2))
    out, err = capfd.readouterr()
    assert out.replace("\r", "\n").split("GPU 0:")[1].split("GPU 1:")[0].split() == ["p0:", "CT", "table", "of", "0"]
    assert "2/2" in err.split("\r")[-1]


def test_a_part_that_fails_stops_no_other(shell, tmp_path):
    line = f'[ $1 = 0 ] && {{ echo "Error: p0.nii.gz is not a readable image; copy it anew." >&2; exit 2; }}; ' \
        f"touch {tmp_path}/done_$1"  # fmt: skip
    with pytest.raises(InputError, match=r"^p0.nii.gz is not a readable image; copy it anew.$"):
        predict_in_parts([line], NAMES, devices(2), allow_tqdm=False)
    assert (tmp_path / "done_1").exists()


def test_one_sentence_for_what_fails_on_all_devices(shell):
    with pytest.raises(InputError, match=r"^the model is damaged.$"):
        predict_in_parts(['echo "Error: the model is damaged." >&2; exit 2'], NAMES, devices(2), allow_tqdm=False)


def test_a_part_that_is_killed(shell):
    with pytest.raises(InputError, match=r"^The process on GPU 0 ended without a word, .* go on with --continue_pred"):
        predict_in_parts(['echo "p0: CT"; kill -9 $$'], NAMES, devices(1), allow_tqdm=False)


def test_words_of_a_part(tmp_path):
    job = part_of(["rl_nnunet_predict", "-i", "images", "-num_parts", "2"], 3, 4, tmp_path / "log")
    before, after = job.words()
    assert [*before, "-device", "cpu", *after][-6:] == [
        "cpu", "-num_parts", "4", "-part_id", "3", "--disable_progress_bar",
    ]  # fmt: skip


def run_on(devices, patient, run, *flags):
    from rl_nnunet.prediction.predict import main

    words = ("-i", patient.images, "-o", patient.output, "-m", patient.model, "-f", 0, "--devices", *devices)
    return run(main, *words, "-npp", 0, "-nps", 0, "--disable_tta", *flags)


def test_segmentations_are_not_overwritten_unasked(patient, run, assert_refused_in_one_sentence):
    """Before any part begins: one would refuse, and the others go on."""
    (patient.output / "CT").mkdir(parents=True)
    (patient.output / "CT" / "p1.nii.gz").write_text("mine")
    assert_refused_in_one_sentence(run_on(["cpu", "cpu"], patient, run), "CT/p1.nii.gz exists already", "--overwrite")


def test_devices_that_are_not_there(patient, run, assert_refused_in_one_sentence, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused_in_one_sentence(run_on([0], patient, run), "there is no GPU that torch can use")
    assert run_on(["gpu"], patient, run).code == 2
    assert "not allowed with argument" in run_on(["cpu"], patient, run, "-device", "cpu").err


@pytest.mark.slow
def test_segmentations_are_those_of_one_process(patient, predict, run, make_scan):
    for number in range(2, 6):
        sitk.WriteImage(make_scan(number), patient.images / f"p{number}_0000.nii.gz")
    (patient.images / "p9_0000.nii.gz").write_bytes(b"no image")
    alone = predict(patient.model, patient.images, patient.root / "alone")
    outcome = run_on(["cpu", "cpu"], patient, run)
    assert outcome.code == alone.code == 2
    assert "p9_0000.nii.gz is not a readable image" in outcome.err.splitlines()[-1]
    files = sorted(path.name for path in (patient.root / "alone").iterdir())
    assert len(files) == 7  # five cases, and the two beside them
    assert sorted(path.name for path in patient.output.iterdir()) == files
    for name in files:
        assert (patient.output / name).read_bytes() == (patient.root / "alone" / name).read_bytes()
