"""Runs that write folders beside each other."""

import threading
from pathlib import Path

from rl_nnunet.files import UNFINISHED_PREFIX, new_folder


def test_run_that_starts_between_a_folder_and_its_lock(tmp_path, monkeypatch):
    def run_beside():
        with new_folder(tmp_path / "beside"):
            pass

    beside = threading.Thread(target=run_beside)
    mkdir = Path.mkdir

    def mkdir_and_start(path, *arguments, **settings):
        mkdir(path, *arguments, **settings)
        if path.name == f"{UNFINISHED_PREFIX}mine":
            beside.start()
            beside.join(0.3)

    monkeypatch.setattr(Path, "mkdir", mkdir_and_start)
    with new_folder(tmp_path / "mine"):
        beside.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "mine"]


def test_leftover_that_is_gone_before_it_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda path, _: [path / f"{UNFINISHED_PREFIX}gone"])
    with new_folder(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
