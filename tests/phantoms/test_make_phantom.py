import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from rl_nnunet.phantoms.make_phantom import DEFAULTS_OF_KIND, main

TINY = ["--cases", "2", "--test_cases", "0", "--size", "24", "-np", "1"]
COMMAND = [sys.executable, "-c", "from rl_nnunet.phantoms.make_phantom import main; main()"]


def fails(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert exit_info.value.code == 2
    return capsys.readouterr().err.strip()


def test_summary_has_a_row_per_folder(tmp_path, capsys):
    main(["-o", str(tmp_path / "heart"), *TINY])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["folder", "ct_train", "mr_train"]
    assert "24 x 24" in lines[1]
    assert lines[-1].startswith("4 cases written to")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--rotate_mr"], "--rotate_mr needs --paired"),
        (["--test_labels", "--test_cases", "0"], "--test_labels needs --test_cases"),
        (["--cases", "0"], "--cases must be between 1 and 999, not 0."),
        (["--test_cases", "-1"], "--test_cases must be between 0 and 999"),
        (["--size", "4"], "--size must be between 16 and 1024"),
        (["--noise", "nan"], "--noise must be between 0 and 10000"),
        (["--seed", "-3"], "--seed must be at least 0"),
        (["-np", "0"], "-np must be at least 1"),
        (["--year", "2021"], "--year is an option of the kind brats, not of heart."),
        (["--noise_sequence", "T2"], "--noise_sequence is an option of the kind brats, not of heart."),
        (["brats", "--noise", "50"], "--noise is an option of the kind heart, not of brats."),
        (["brats", "--paired"], "--paired is an option of the kind heart, not of brats."),
        (["brats", "--paired_test"], "--paired_test is an option of the kind heart, not of brats."),
        (["brats", "--rotate_mr"], "--rotate_mr is an option of the kind heart, not of brats."),
        (["brats", "--cases", "1000"], "--cases must be between 1 and 999"),
        (["brats", "--year", "2020", "--cases", "356"], "--cases must be between 1 and 355"),
        (["brats", "--size", "4"], "--size must be between 16 and 1024"),
        (["brats", "--test_labels", "--test_cases", "0"], "--test_labels needs --test_cases"),
    ],
)
def test_bad_options_are_answered_in_one_sentence(extra, sentence, tmp_path, capsys):
    error = fails(["-o", tmp_path / "heart", *extra], capsys)
    assert error.startswith(f"Error: {sentence}")
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [["--year", "2022"], ["--noise_sequence", "PD"]])
def test_unknown_years_and_sequences_are_answered_with_the_choices(extra, tmp_path, capsys):
    assert "invalid choice" in fails(["brats", "-o", tmp_path / "heads", *extra], capsys)


def test_brats_has_a_summary_with_a_row_per_folder(tmp_path, capsys):
    folder = tmp_path / "heads"
    main(["brats", "-o", str(folder), "--year", "2018", *TINY, "--test_cases", "1", "--noise_sequence", "T1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["MICCAI_BraTS_2018_Data_Training/HGG", "1"],
        ["MICCAI_BraTS_2018_Data_Training/LGG", "1"],
        ["MICCAI_BraTS_2018_Data_Validation", "1"],
    ]
    assert lines[-1].startswith("3 cases written to")


def test_brats_is_of_2021_unless_told_otherwise(tmp_path):
    main(["brats", "-o", str(tmp_path / "heads"), *TINY, "--test_cases", "1", "--test_labels"])
    assert {path.name for path in (tmp_path / "heads").glob("[!.]*")} == {
        "BraTS2021_Training_Data",
        "BraTS2021_ValidationData",
    }
    assert len(list((tmp_path / "heads" / "BraTS2021_ValidationData").glob("*/*_seg.nii.gz"))) == 1


def test_the_size_that_help_shows_is_that_of_all_kinds():
    assert len({defaults["size"] for defaults in DEFAULTS_OF_KIND.values()}) == 1


def test_one_kind_does_not_replace_the_other(tmp_path, capsys):
    main(["brats", "-o", str(tmp_path / "heads"), *TINY])
    main(["heart", "-o", str(tmp_path / "hearts"), *TINY])
    heart, brats = ["heart", "-o", tmp_path / "heads"], ["brats", "-o", tmp_path / "hearts"]
    assert "a phantom of heads, not a phantom of hearts" in fails([*heart, *TINY, "--overwrite"], capsys)
    assert "a phantom of hearts, not a phantom of heads" in fails([*brats, *TINY, "--overwrite"], capsys)


def test_existing_data_set_is_kept_unless_told_otherwise(tmp_path, capsys):
    folder = tmp_path / "heart"
    main(["-o", str(folder), *TINY, "--cases", "1"])
    assert "add --overwrite" in fails(["-o", folder, *TINY], capsys)
    main(["-o", str(folder), *TINY, "--overwrite"])
    assert len(list(folder.glob("*/*.nii.gz"))) == 8
    assert list(tmp_path.iterdir()) == [folder]


def test_foreign_folder_is_never_replaced(tmp_path, capsys):
    (tmp_path / "heart").mkdir()
    (tmp_path / "heart" / "thesis.tex").write_text("precious")
    assert "not written by this command" in fails(["-o", tmp_path / "heart", *TINY, "--overwrite"], capsys)
    assert (tmp_path / "heart" / "thesis.tex").read_text() == "precious"


def test_real_data_are_never_replaced_although_their_names_are_those_of_phantoms(tmp_path, capsys):
    """What a folder of MM-WHS looks like, with notes beside the scans."""
    folder = tmp_path / "MMWHS"
    for name in ("ct_train/ct_train_1001_image.nii.gz", "mr_train/mr_train_1001_image.nii.gz", "ct_train/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    before = {path: path.read_text() for path in folder.rglob("*.*")}
    for extra in ([], ["--overwrite"]):
        error = fails(["-o", folder, "--cases", "1", "--size", "16", *extra], capsys)
        assert "is not replaced, because it was not written by this command" in error
        assert "add --overwrite" not in error
    assert {path: path.read_text() for path in folder.rglob("*.*")} == before


def test_real_data_among_phantoms_are_never_replaced(tmp_path, capsys):
    folder = tmp_path / "heart"
    main(["-o", str(folder), *TINY])
    scan = folder / "ct_train" / "ct_train_1003_image.nii.gz"
    scan.write_text("precious")
    assert f"holds something else, ct_train/{scan.name}" in fails(["-o", folder, *TINY, "--overwrite"], capsys)
    assert scan.read_text() == "precious"


@pytest.mark.parametrize("output", ["", " ", "~nosuchuser/x"])
def test_output_that_is_no_path(output, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "argument -o/--output: " in fails(["-o", output, *TINY], capsys).splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250])
def test_name_that_is_too_long(name, tmp_path, capsys):
    error = fails(["-o", tmp_path / name, *TINY], capsys)
    assert "cannot be written (File name too long)" in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_removed_current_folder(tmp_path):
    # Imported first: Python 3.13 imports nothing from a folder that is gone.
    program = "import os, shutil; from rl_nnunet.phantoms.make_phantom import main;"
    program += "shutil.rmtree(os.getcwd()); main(['-o', 'heart'])"
    (tmp_path / "here").mkdir()
    failed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "here", capture_output=True, text=True)
    assert (failed.returncode, "Traceback" in failed.stderr) == (2, False)
    assert "the current folder does not exist any more" in failed.stderr


@pytest.mark.parametrize("kind", ["heart", "brats"])
def test_full_disk_is_noticed(kind, tmp_path):
    """A limit on the size of files cuts writes short, as a full disk does; ITK does not report it."""

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    failed = subprocess.run(
        [*COMMAND, kind, "-o", tmp_path / "new", *TINY], preexec_fn=limit_file_size, capture_output=True, text=True
    )
    assert (failed.returncode, failed.stdout, "Traceback" in failed.stderr) == (2, "", False)
    assert "cannot be written (the disk or quota is full)" in failed.stderr
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way(tmp_path, capsys):
    (tmp_path / "heart").write_text("")
    assert "is not a folder" in fails(["-o", tmp_path / "heart", *TINY], capsys)
    assert "cannot be" in fails(["-o", tmp_path / "heart" / "below", *TINY], capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert "Permission denied" in fails(["-o", tmp_path / "heart", *TINY], capsys)


def test_kill_leaves_nothing_behind(tmp_path):
    arguments = ["-o", str(tmp_path / "heart"), "--cases", "500", "--size", "48", "-np", "1"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".rl_nnunet_unfinished_heart/new/ct_train/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_bad_input_exits_with_2(tmp_path):
    start = time.perf_counter()
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 1
    assert "--rotate_mr" in shown.stdout
    failed = subprocess.run([*COMMAND, "-o", str(tmp_path / "x"), "--rotate_mr"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
