"""Runs that are killed at a random moment: the next run ends as if there had been none, and nothing stays behind."""

import hashlib
import random
import shutil
import time

import blosc2
import pytest

from rl_nnunet.files import MARKER
from rl_nnunet.planners.planning_log import LOG_FILE

SEED = 0


def content(path):
    """Return what a file holds; the threads of blosc2 write the compressed blocks of an array in any order."""
    return blosc2.open(str(path), mode="r")[:].tobytes() if path.suffix == ".b2nd" else path.read_bytes()


def digests(folder):
    """Return a digest per file, but for the marker, which states times of writing, and the log of the planning."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(content(path)).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (MARKER, LOG_FILE)
    }


def kill_and_rerun(project, output, runs, *words, replaces=True):
    """Run a command undisturbed; then kill it `runs` times, run it again each time, and compare what is written.

    A command that replaces its output folder at once must leave all of the old one, or all of the new one.
    """
    start = time.monotonic()
    project.run(*words)
    seconds = time.monotonic() - start
    expected = digests(output)
    assert expected
    moments = random.Random(SEED)
    killed = 0
    for _ in range(runs):
        moment = moments.uniform(0, seconds)
        overwrite = ["--overwrite"] if replaces else []
        with project.start(*words, *overwrite) as process:
            time.sleep(moment)
            process.kill()
            process.communicate()
        killed += process.returncode != 0
        if replaces:
            assert digests(output) == expected, f"neither the old nor the new folder, {moment:.2f} s after the start"
            if moment < seconds / 2:  # half of the runs write a new folder, the others replace one
                shutil.rmtree(output)
        project.run(*words, *overwrite)
        assert digests(output) == expected, f"killed {moment:.2f} s after the start"
        assert not list(output.parent.glob(".rl_nnunet_unfinished_*"))
    assert killed > runs / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heart", "brats"])
def test_phantoms(kind, new_project):
    project = new_project("Dataset901_Killed")
    output = project.root / "phantom"
    kill_and_rerun(
        project, output, 10, "rl_nnunet_make_phantom", kind, "-o", output, "--cases", 30, "--size", 48, "-np", 2
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rl_nnunet_convert_mmwhs", "rl_nnunet_convert_brats"])
def test_conversions(command, new_project):
    project = new_project("Dataset901_Killed")
    phantom = project.root / "phantom"
    kind = "brats" if command.endswith("brats") else "heart"
    project.run("rl_nnunet_make_phantom", kind, "-o", phantom, "--cases", 30, "--size", 32, "-np", 2)
    words = (command, "-i", phantom, "-d", project.id, "-n", "Killed", "-np", 2)
    kill_and_rerun(project, project.raw, 10, *words)


@pytest.mark.slow
def test_plannings(hearts, copy_raw, tmp_path):
    project = copy_raw(hearts, tmp_path / "copy")
    words = ("rl_nnunet_plan_and_preprocess", "-d", project.id, "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres")
    kill_and_rerun(project, project.preprocessed, 10, *words, "-npfp", 1, "-np", 1, replaces=False)
