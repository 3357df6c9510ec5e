"""Folders that appear whole or not at all, and that are never replaced at the cost of what is not ours."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rl_nnunet import files, locks
from rl_nnunet.errors import InputError
from rl_nnunet.files import MARKER, UNFINISHED_PREFIX, new_folder

KIND = "a test"


def write(target, content="new", **options):
    """Write a folder with one file at the top and one below."""
    with new_folder(target, KIND, **options) as folder:
        (folder / "below").mkdir()
        (folder / "top.txt").write_text(content)
        (folder / "below" / "file.txt").write_text(content)


def contents(target):
    return {p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("[!.]*") if p.is_file()}


@pytest.fixture
def target(tmp_path):
    """A folder of ours."""
    write(tmp_path / "target", "old")
    return tmp_path / "target"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_overwrite_replaces_what_is_ours(can_exchange, target, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with pytest.raises(InputError, match="add --overwrite"):
        write(target)
    write(target, overwrite=True)
    assert contents(target) == {"top.txt": "new", "below/file.txt": "new"}
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux only")
def test_linux_exchanges_in_one_step(target, tmp_path):
    write(tmp_path / "other", "other")
    assert files._exchange(target, tmp_path / "other")
    assert contents(target)["top.txt"] == "other"


def add_file(folder):
    (folder / "below" / "thesis.tex").write_text("precious")
    return "holds something else, below/thesis.tex"


def add_hidden_file(folder):
    (folder / "below" / ".notes").write_text("precious")
    return "holds something else, below/.notes"


def add_empty_folder(folder):
    (folder / "below" / "for_later").mkdir()
    return "holds something else, below/for_later"


def add_link_to_folder(folder):
    (folder / "below" / "elsewhere").symlink_to(folder.parent)
    return "holds something else, below/elsewhere"


def replace_by_link(folder):
    (folder / "top.txt").rename(folder.parent / "moved.txt")
    (folder / "top.txt").symlink_to(folder.parent / "moved.txt")
    return "holds top.txt, which was changed since"


def change_size(folder):
    (folder / "below" / "file.txt").write_text("corrected by hand")
    return "holds below/file.txt, which was changed since"


def change_content(folder):
    (folder / "top.txt").write_text("abc")
    os.utime(folder / "top.txt", (time.time() + 60,) * 2)
    return "holds top.txt, which was changed since"


def remove_marker(folder):
    (folder / MARKER).unlink()
    return "was not written by this command"


def break_marker(folder):
    (folder / MARKER).write_text("[1")
    return "was not written by this command"


def change_kind(folder):
    (folder / MARKER).write_text((folder / MARKER).read_text().replace(KIND, "a thesis"))
    return f"is a thesis, not {KIND}"


@pytest.mark.parametrize(
    "change",
    [
        add_file, add_hidden_file, add_empty_folder, add_link_to_folder, replace_by_link, change_size, change_content,
        remove_marker, break_marker, change_kind,
    ],
)  # fmt: skip
def test_what_is_not_ours_is_never_replaced(change, target):
    reason = change(target)
    before = contents(target)
    for overwrite in (True, False):
        # Without --overwrite, the sentence must not suggest it.
        with pytest.raises(InputError, match=f"is not replaced, because it {reason}"):
            write(target, overwrite=overwrite)
    assert contents(target) == before


def test_file_that_was_saved_meanwhile_is_not_replaced(target):
    with pytest.raises(InputError, match="holds something else, late.txt"), new_folder(target, KIND, overwrite=True):
        (target / "late.txt").write_text("precious")
    assert contents(target)["late.txt"] == "precious"


def test_link_file_and_current_folder_are_not_replaced(target, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(InputError, match="exists and is not a folder"):
            write(tmp_path / name, overwrite=True)
    (tmp_path / "empty").mkdir()
    for here in (target, target / "below", tmp_path / "empty"):
        monkeypatch.chdir(here)
        with pytest.raises(InputError, match="current folder and cannot be replaced"):
            write(here if here.name == "empty" else target, overwrite=True)


def test_folder_that_is_called_like_an_unfinished_one_is_not_removed(tmp_path):
    mine = tmp_path / f"{UNFINISHED_PREFIX}mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("precious")
    write(tmp_path / "target")
    assert (mine / "thesis.tex").read_text() == "precious"
    with pytest.raises(InputError, match="are those of unfinished folders"):
        write(tmp_path / f"{UNFINISHED_PREFIX}other")


def test_without_locks_the_old_folder_is_not_thrown_away(target, monkeypatch):
    """A run was killed between two renames on a file system that can neither exchange nor lock."""
    workshop = target.parent / f"{UNFINISHED_PREFIX}target"
    workshop.mkdir()
    target.rename(workshop / "replaced")
    monkeypatch.setattr(files, "try_lock", lambda _: (None, False))
    with pytest.raises(InputError, match=f"if there is none, move {workshop / 'replaced'} to {target}"):
        write(target)


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert contents(tmp_path / "empty")


KILLED_BETWEEN_RENAMES = """
import os, sys
from pathlib import Path
from rl_nnunet import files, locks
files._exchange = lambda *_: False
rename = Path.rename
def rename_and_die(path, target):
    rename(path, target)
    os.kill(os.getpid(), 9)
Path.rename = rename_and_die
with files.new_folder(Path(sys.argv[1]), "a test", overwrite=True) as folder:
    (folder / "top.txt").write_text("new")
"""


def test_kill_between_the_two_renames_leaves_the_old_folder_for_the_next_run(target):
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_RENAMES, target])
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(InputError, match="add --overwrite"):
        write(target)
    assert contents(target) == {"top.txt": "old", "below/file.txt": "old"}
    assert os.listdir(target.parent) == ["target"]


def test_run_that_starts_between_a_folder_and_its_lock(tmp_path, monkeypatch):
    def run_beside():
        with new_folder(tmp_path / "beside", KIND):
            pass

    beside = threading.Thread(target=run_beside)
    mkdir = Path.mkdir

    def mkdir_and_start(path, *arguments, **settings):
        mkdir(path, *arguments, **settings)
        if path.name == f"{UNFINISHED_PREFIX}mine":
            beside.start()
            beside.join(0.3)

    monkeypatch.setattr(Path, "mkdir", mkdir_and_start)
    with new_folder(tmp_path / "mine", KIND):
        beside.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "mine"]


def test_leftover_that_is_gone_before_it_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda path, *_, **__: [path / f"{UNFINISHED_PREFIX}gone"])
    with new_folder(tmp_path / "mine", KIND):
        pass
    assert (tmp_path / "mine").is_dir()


def test_waiting_for_another_run_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "SILENT_WAIT_S", 0.1)
    said, deadline = "", time.monotonic() + 10
    with locks.one_run_at_a_time(tmp_path):
        waiting = threading.Thread(target=write, args=(tmp_path / "target",))
        waiting.start()
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
            said = capsys.readouterr().err
        assert waiting.is_alive()
    waiting.join()
    assert said == f"Waiting for another run that is at work in {tmp_path} ...\n"
    assert contents(tmp_path / "target")
