"""Locks that keep runs apart, go with their process, and leave no file behind."""

import os
import subprocess
import sys
import threading

import filelock
import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.locks import LOCK_FILE, one_run_at_a_time, only_run_in, try_lock, unlock

HOLD = """
import sys, time
from pathlib import Path
from rl_nnunet.locks import only_run_in
with only_run_in(Path(sys.argv[1]), ""):
    print("locked", flush=True)
    time.sleep(60)
"""
COUNT = """
import sys
from pathlib import Path
from rl_nnunet.locks import one_run_at_a_time
for _ in range(100):
    with one_run_at_a_time(Path(sys.argv[1])):
        count = Path(sys.argv[2])
        count.write_text(str(int(count.read_text()) + 1))
"""


def test_lock_of_another_process_and_of_a_killed_one(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="^it is taken$"), only_run_in(tmp_path, "it is taken"):
            pass
        holder.kill()
    assert os.listdir(tmp_path) == [LOCK_FILE]
    with only_run_in(tmp_path, ""):
        assert os.listdir(tmp_path) == [LOCK_FILE]
    assert os.listdir(tmp_path) == []


def test_many_processes_take_turns(tmp_path):
    """Every lock is on a new file, as each of them removes it in the end."""
    (tmp_path / "locked").mkdir()
    count = tmp_path / "count"
    count.write_text("0")
    command = [sys.executable, "-c", COUNT, tmp_path / "locked", count]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [b""] * 4
    assert count.read_text() == "400"
    assert os.listdir(tmp_path / "locked") == []


def test_file_that_is_removed_between_opening_and_locking(tmp_path, monkeypatch):
    lock_descriptor, removed = filelock.lock_descriptor, []

    def remove_and_lock(descriptor, **options):
        if not removed:
            removed.append((tmp_path / LOCK_FILE).unlink())
        return lock_descriptor(descriptor, **options)

    monkeypatch.setattr(filelock, "lock_descriptor", remove_and_lock)
    lock, _ = try_lock(tmp_path)
    assert os.path.samestat(os.fstat(lock), os.stat(tmp_path / LOCK_FILE))
    assert try_lock(tmp_path) == (None, True)
    unlock(tmp_path, lock)


def test_file_system_that_cannot_lock_stops_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", fail)
    with only_run_in(tmp_path, ""), one_run_at_a_time(tmp_path):
        assert os.listdir(tmp_path) == []


def test_folder_that_is_gone_stops_nothing(tmp_path):
    with only_run_in(tmp_path / "gone", ""), one_run_at_a_time(tmp_path / "gone"):
        assert not (tmp_path / "gone").exists()


def test_threads_take_turns(tmp_path):
    order = []

    def work():
        with one_run_at_a_time(tmp_path):
            order.append("second")

    with one_run_at_a_time(tmp_path):
        waiting = threading.Thread(target=work)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
