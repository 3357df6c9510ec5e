"""Mistakes in the options and patterns of the general converters end in one sentence, and leave nothing behind."""

import os

import pytest

UNPAIRED_MISTAKES = {
    "no placeholder": (["--branch", "CT={d}/a.nii.gz:{d}/{case}_l.nii.gz"], "lacks {case}"),
    "no match": (["--branch", "CT={d}/{case}_x.nii.gz:{d}/{case}_label.nii.gz"], "No file matches"),
    "no labels": (["--branch", "CT={d}/{case}_image.nii.gz"], "add :LABELS"),
    "malformed": (["--branch", "{d}/{case}.nii.gz"], "write NAME=IMAGES:LABELS"),
    "branch twice": (["--branch", "{ct}", "--branch", "{ct}"], "given twice"),
    "files of another branch": (
        ["--branch", "{ct}", "--branch", "B={d}/../ct_train/{case}_image.nii.gz:{d}/{case}_label.nii.gz"],
        "is used twice",
    ),
    "unknown test branch": (
        ["--branch", "{ct}", "--test", "MR={d}/{case}_image.nii.gz"],
        "must be a name from --branch",
    ),
    "training case as test": (["--branch", "{ct}", "--test", "{ct}"], "would both become the case CT_ct_train_1001"),
    "too many channel names": (["--branch", "{ct}", "--channels", "CT=a,b"], "has 1 channels, not 2"),
    "channels of no branch": (["--branch", "{ct}", "--channels", "X=a"], "there is no branch X"),
    "unknown held-out case": (["--branch", "{ct}", "--hold_out", "nobody"], "there is no case or file nobody"),
    "all held out": (
        ["--branch", "{ct}", "--hold_out", "ct_train_1001", "ct_train_1002", "ct_train_1003"],
        "CT has no training case",
    ),
    "too few to split": (
        ["--branch", "{ct}", "--hold_out", "ct_train_1001", "ct_train_1002"],
        "cannot be split",
    ),
    "nothing": (["--branch", ""], "write NAME=IMAGES:LABELS"),
    "name only": (["--branch", "CT="], "write NAME=IMAGES:LABELS"),
    "name with blanks": (
        ["--branch", "C T={d}/{case}_image.nii.gz:{d}/{case}_label.nii.gz"],
        "write NAME=IMAGES:LABELS",
    ),
    "labels only": (["--branch", "CT=:{d}/{case}_label.nii.gz"], "write NAME=IMAGES:LABELS"),
    "nothing after the colon": (["--branch", "CT={d}/{case}_image.nii.gz:"], "write NAME=IMAGES:LABELS"),
    "two colons": (["--branch", "CT={d}/{case}_image.nii.gz:{d}/{case}_label.nii.gz:x"], "must not contain ':'"),
    "nothing after the comma": (
        ["--branch", "CT={d}/{case}_image.nii.gz,:{d}/{case}_label.nii.gz"],
        "must not contain",
    ),
    "label is the image": (["--branch", "CT={d}/{case}_label.nii.gz:{d}/{case}_label.nii.gz"], "is given twice"),
    "home of nobody": (["--branch", "CT=~nosuchuser/{case}.nii:{d}/{case}_label.nii.gz"], "a user who does not exist"),
    "label in the home of nobody": (
        ["--branch", "CT={d}/{case}_image.nii.gz:~nosuchuser/{case}.nii"],
        "does not exist",
    ),
    "folders": (["--branch", "CT={d}/../{case}:{d}/{case}_label.nii.gz"], "No file matches"),
    "test without patterns": (["--branch", "{ct}", "--test", "CT"], "write NAME=IMAGES:LABELS"),
    "test of more channels": (
        ["--branch", "{ct}", "--test", "CT={d}/{case}_image.nii.gz,{d}/{case}_label.nii.gz"],
        "as many image patterns",
    ),
    "channels without names": (["--branch", "{ct}", "--channels", "CT"], "write BRANCH=NAME"),
    "channels without branch": (["--branch", "{ct}", "--channels", "=a"], "write BRANCH=NAME"),
    "empty channel name": (["--branch", "{ct}", "--channels", "CT="], "write BRANCH=NAME"),
    "channel name with a blank": (["--branch", "{ct}", "--channels", "CT= CT"], "without blanks around"),
    "channels twice": (["--branch", "{ct}", "--channels", "CT=a", "--channels", "CT=b"], "CT is given twice"),
    "held-out image": (["--branch", "{ct}", "--hold_out", "{d}/ct_train_1001_image.nii.gz"], "is no text file"),
    "held-out folder": (["--branch", "{ct}", "--hold_out", "{d}"], "there is no case or file"),
    "held-out name of 300 characters": (["--branch", "{ct}", "--hold_out", "x" * 300], "File name too long"),
    "name of 250 characters": (["--branch", "{ct}", "-n", "x" * 250], "-n: the name has 250 characters"),
    "spacing of no branch": (["--branch", "{ct}", "--spacing", "X=1,1,1"], "there is no branch X"),
    "spacing twice": (["--branch", "{ct}", "--spacing", "CT=1,1,1", "CT=1,1,2"], "CT is given twice"),
    "spacing of two edges": (["--branch", "{ct}", "--spacing", "CT=1,1"], "write BRANCH=X,Y,Z"),
    "spacing of words": (["--branch", "{ct}", "--spacing", "CT=1,1,thin"], "write BRANCH=X,Y,Z"),
    "spacing that is no number": (["--branch", "{ct}", "--spacing", "CT=1,1,nan"], "write BRANCH=X,Y,Z"),
    "spacing of zero": (["--branch", "{ct}", "--spacing", "CT=1,1,0"], "write BRANCH=X,Y,Z"),
    "spacing of a mile": (["--branch", "{ct}", "--spacing", "CT=1,1,1609344"], "write BRANCH=X,Y,Z"),
    "channel missing": (
        ["--branch", "CT={d}/{case}_image.nii.gz,{d}/{case}_1_image.nii.gz:{d}/{case}_label.nii.gz"],
        "No file matches",
    ),
}


@pytest.mark.parametrize("mistake", UNPAIRED_MISTAKES)
def test_unpaired_mistake_is_refused(mistake, run_unpaired, mmwhs, assert_refused):
    arguments, fragment = UNPAIRED_MISTAKES[mistake]
    folder = str(mmwhs / "ct_train")
    ct = f"CT={folder}/{{case}}_image.nii.gz:{folder}/{{case}}_label.nii.gz"
    arguments = [argument.replace("{ct}", ct).replace("{d}", folder) for argument in arguments]
    labels = ["--labels", "background=0", "heart=205,420,500,550,600,820,850"]
    assert_refused(run_unpaired(*arguments, *labels), fragment)


def test_channel_names_that_are_not_different(run_unpaired, mmwhs, assert_refused):
    files = f"{mmwhs}/ct_train/{{case}}_image.nii.gz:{mmwhs}/ct_train/{{case}}_label.nii.gz"
    branches = ["--branch", f"CT={files}", "--branch", f"MR={files}"]
    outcome = run_unpaired(*branches, "--channels", "MR=CT", "--labels", "heart=205")
    assert_refused(outcome, "the channel names CT, CT must all differ")


@pytest.mark.parametrize(
    ("name", "fragment"),
    [("x" * 230, "a name of 233 bytes"), ("\u00e9" * 110, "a name of 223 bytes"), ("a\nb", "cannot be printed")],
)
def test_case_names_that_cannot_be_written(name, fragment, run_unpaired, write_volumes, assert_refused):
    folder = write_volumes(f"ct/{name}")
    branch = f"CT={folder}/ct/{{case}}.nii:{folder}/ct/{{case}}_label.nii"
    assert_refused(run_unpaired("--branch", branch, "--labels", "heart=1"), fragment, "rename it")


def test_case_name_that_is_not_utf8(run_unpaired, write_volumes, assert_refused):
    folder = write_volumes("ct/p1")
    for kind in ("", "_label"):
        os.rename(
            os.fsencode(folder / f"ct/p1{kind}.nii"), os.fsencode(f"{folder}/ct/p") + b"\xff%s.nii" % kind.encode()
        )
    branch = f"CT={folder}/ct/{{case}}.nii:{folder}/ct/{{case}}_label.nii"
    assert_refused(run_unpaired("--branch", branch, "--labels", "heart=1"), "not UTF-8", "rename it")


def test_patterns_with_a_tilde(run_unpaired, write_volumes, monkeypatch):
    monkeypatch.setenv("HOME", str(write_volumes("ct/p1", "ct/p2")))
    outcome = run_unpaired("--branch", "CT=~/ct/{case}.nii:~/ct/{case}_label.nii", "--labels", "heart=1")
    assert outcome.code == 0, outcome.err


def test_folders_pipes_and_dead_links_are_no_scans(run_unpaired, write_volumes, assert_refused):
    folder = write_volumes("ct/p1", "ct/p2")
    (folder / "ct/folder.nii").mkdir()
    os.mkfifo(folder / "ct/pipe.nii")
    (folder / "ct/link.nii").symlink_to("nowhere")
    branch = f"CT={folder}/ct/{{case}}.nii:{folder}/ct/{{case}}_label.nii"
    assert run_unpaired("--branch", branch, "--labels", "heart=1").code == 0
    (folder / "ct/p1.nii").unlink()
    os.mkfifo(folder / "ct/p1.nii")
    outcome = run_unpaired("--branch", branch, "--labels", "heart=1", "--overwrite")
    assert_refused(outcome, folder / "ct/p1_label.nii", "has no image", left=["Dataset502_Test"])


@pytest.mark.parametrize("content", [bytes(400), b"p1\n" * 400_000, "p1\n".encode("utf-16"), b"\xff"])
def test_held_out_file_that_is_no_list(content, run_unpaired, write_volumes, assert_refused):
    folder = write_volumes("ct/p1", "ct/p2")
    (folder / "names").write_bytes(content)
    branch = f"CT={folder}/ct/{{case}}.nii:{folder}/ct/{{case}}_label.nii"
    outcome = run_unpaired("--branch", branch, "--labels", "heart=1", "--hold_out", folder / "names")
    assert_refused(outcome, folder / "names", "is no text file")
