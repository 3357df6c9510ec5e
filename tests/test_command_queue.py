"""The queue with commands of a moment: who runs where, what fails, and that nothing outlives it."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nnunetv2.run.run_training import run_training_entry

from rl_nnunet import command_queue
from rl_nnunet.command_queue import DONE, FAILED, INTERRUPTED, WAITING, Job, Place, places, run_jobs


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Let a job be a line of the shell, in which $0 is the argument of the place."""
    python = tmp_path / "python"  # called as "python -m MODULE LINE PLACE"
    python.write_text('#!/bin/sh\nshift 2\nexec /bin/sh -c "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(command_queue, "POLL_S", 0.01)
    return lambda name, line: Job(name, lambda: ([line], []), tmp_path / f"{name}.log")


def test_each_place_takes_the_next_job_when_it_is_free(shell, tmp_path):
    note = f'echo "$0 $WHERE begin" >> {tmp_path}/calls; sleep {{}}; echo "$0 end" >> {tmp_path}/calls'
    jobs = [shell("long", note.format(0.5)), *(shell(str(number), note.format(0.05)) for number in range(3))]
    assert run_jobs(jobs, [Place("one", ("one",), {"WHERE": "1"}), Place("two", ("two",), {"WHERE": "2"})]) == []
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [job.place for job in jobs] == ["one", "two", "two", "two"]
    assert sorted(calls[:2]) == ["one 1 begin", "two 2 begin"]
    assert calls.count("two 2 begin") == 3
    assert calls[-1] == "one end"


def test_a_failure_stops_no_other_and_is_returned(shell):
    jobs = [
        shell("bad", "echo one; echo 'Error: no memory' >&2; exit 3"),
        shell("good", "true"),
        shell("useless", "true"),
    ]
    jobs[2].succeeded = lambda: False
    assert run_jobs(jobs, [Place("here", ("x",))]) == [jobs[0], jobs[2]]
    assert [job.state for job in jobs] == [FAILED, DONE, FAILED]
    assert jobs[0].last_words() == "no memory"
    assert jobs[0].log.read_text().startswith("# ")


def test_outputs_are_kept_apart_and_added_to(shell):
    for _ in range(2):
        run_jobs([shell(name, f"echo of {name}") for name in "ab"], [Place("here", ("x",))] * 2)
    for name in "ab":
        lines = shell(name, "").log.read_text().splitlines()
        assert [line for line in lines if not line.startswith("#")] == [f"of {name}"] * 2


def test_the_others_wait_for_the_first_where_they_must(shell, tmp_path):
    made = tmp_path / "made"
    first = f"sleep 0.2; touch {made}; sleep 0.2"
    other = f"test -e {made}"
    jobs = [shell("first", first), shell("other", other)]
    assert not run_jobs(jobs, [Place("here", ("x",))] * 2, may_run_together=made.exists)


def test_what_is_interrupted_ends_with_its_children(shell, tmp_path):
    """A child of the command writes its number and sleeps on; both are gone when the queue has ended."""
    numbers = tmp_path / "numbers"

    def interrupt():
        if numbers.exists() and len(numbers.read_text().splitlines()) == 2:
            raise KeyboardInterrupt

    line = f"sleep 60 & echo $! >> {numbers}; echo $$ >> {numbers}; wait"
    jobs = [shell("a", line), shell("b", "true")]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, [Place("here", ("x",))], watch=_once(interrupt))
    assert [job.state for job in jobs] == [INTERRUPTED, WAITING]
    for number in numbers.read_text().split():
        assert _ends(int(number))


def _once(function):
    """Return a function that does nothing once `function` has raised."""
    raised = []

    def call():
        if not raised:
            try:
                function()
            except BaseException:
                raised.append(True)
                raise

    return call


def _ends(number):
    """Tell whether a process ends within seconds; one that is no child of ours may be a zombie of nobody."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_no_command_outlives_a_killed_queue(tmp_path):
    """SIGKILL leaves no time to end the commands: they notice."""
    script = """
import sys
from pathlib import Path
from rl_nnunet.command_queue import Job, Place, run_jobs
run_jobs([Job("wait", lambda: (["rl_nnunet_test_wait"], []), Path(sys.argv[1]))], [Place("here")])
"""
    # An entry point of this test's own, which writes its number and that of a worker of its.
    metadata = tmp_path / "rl_nnunet_test_wait-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rl_nnunet_test_wait\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[console_scripts]\nrl_nnunet_test_wait = waiting_command:main\n")
    numbers = tmp_path / "numbers"
    (tmp_path / "waiting_command.py").write_text(
        "import os, time\n"
        "def main():\n"
        "    child = os.fork()\n"
        "    if child:\n"
        f"        open({str(numbers)!r}, 'w').write(f'{{os.getpid()}} {{child}} {{os.cpu_count()}}\\n')\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON_CPU_COUNT": "7"}
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "log"], env=environment) as process:
        deadline = time.monotonic() + 60
        while not (numbers.exists() and numbers.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    command, worker, cores = map(int, numbers.read_text().split())
    assert cores == 7
    assert _ends(command)
    assert _ends(worker)


def test_nnunet_takes_as_many_threads_as_python_counts_cores():
    """Which is what a share of the cores goes by."""
    assert "torch.set_num_threads(multiprocessing.cpu_count())" in inspect.getsource(run_training_entry)


def test_places(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus = places(["0", "3"])
    assert [place.words for place in gpus] == [("-device", "cuda")] * 2
    assert [place.variables for place in gpus] == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert [place.variables["PYTHON_CPU_COUNT"] for place in places(["cpu"] * 3)] == ["2"] * 3
    assert places(["cpu"])[0].variables == {}
    assert places(["cpu"], threads=5)[0].variables["PYTHON_CPU_COUNT"] == "5"
    assert places(["cpu"] * 99)[0].variables["PYTHON_CPU_COUNT"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert places(["1"])[0].variables == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
