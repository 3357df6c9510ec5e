"""Without what Windows lacks, the commands' modules are imported, a conversion runs, and the queue runs and ends jobs.

There are no locks then: on Windows, filelock has others, which are not tried.
"""

import os
import subprocess
import sys

import SimpleITK as sitk

WITHOUT = """
import os, sys
for module in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[module] = None
for name in ("getpgid", "getpgrp", "geteuid", "getuid", "killpg", "mkfifo", "nice", "setsid", "statvfs", "sysconf"):
    delattr(os, name)
"""
CONVERT = f"""{WITHOUT}
from importlib.metadata import entry_points
for entry in entry_points(group="console_scripts"):
    if entry.value.startswith("rl_nnunet."):
        entry.load()
from rl_nnunet.dataset_conversion.convert_mmwhs import main
folder = sys.argv[1]
for flags in ([], ["--overwrite"]):
    sys.argv = ["rl_nnunet_convert_mmwhs", "-i", folder, "-d", "501", "-np", "1", *flags]
    main()
import filelock
assert not filelock.has_fcntl
"""
QUEUE = f"""{WITHOUT}
from pathlib import Path
from rl_nnunet.command_queue import INTERRUPTED, Job, Place, run_jobs
folder = Path(sys.argv[1])
def version_of(command):
    return Job(command, lambda: ([command], ["--version"]), folder / command)
jobs = [version_of("rl_nnunet_env"), version_of("rl_nnunet_predict")]
assert not run_jobs(jobs, [Place("one"), Place("two")])
assert all("rl_nnunet" in job.last_words() for job in jobs)
def interrupt():
    raise KeyboardInterrupt
job = version_of("rl_nnunet_demo")
try:
    run_jobs([job], [Place("one")], watch=interrupt)
except KeyboardInterrupt:
    assert job.state == INTERRUPTED
"""


def test_queue(tmp_path):
    run = subprocess.run([sys.executable, "-c", QUEUE, tmp_path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_conversion(mmwhs, raw):
    run = subprocess.run([sys.executable, "-c", CONVERT, mmwhs], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert os.listdir(raw) == ["Dataset501_MMWHS"]
    assert len(os.listdir(raw / "Dataset501_MMWHS" / "labelsTr")) == 6
    assert sitk.ReadImage(raw / "Dataset501_MMWHS/imagesTr/ct_train_1001_0000.nii.gz").GetSize() == (5, 6, 7)
