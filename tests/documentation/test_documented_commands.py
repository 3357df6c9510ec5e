"""Every command line of the README and the docs is run as it is written, on small data, by nnU-Net's real commands.

What is small: the data behind the folders that the docs name, the schedules of the trainers, and what the flags of
`SMALL` say, which a command gets behind those that are written.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent

COMMAND = re.compile(r"(?:[A-Za-z_]\w*=\S* )*(rl_nnunet_\w+|nnUNetv2_\w+|make|pip|python3?|source|eval|export) ?")
SMALL = {
    "rl_nnunet_make_phantom": "--cases 5 --test_cases 1 --size 24 -np 1",
    "rl_nnunet_plan_and_preprocess": "-npfp 1 -np 1",
    "nnUNetv2_train": "-device cpu",
    "nnUNetv2_predict": "-device cpu -npp 1 -nps 1 --disable_tta",
    "nnUNetv2_ensemble": "-np 1",
    "nnUNetv2_evaluate_folder": "-np 1",
    "nnUNetv2_find_best_configuration": "-np 1",
}
# What cannot run within a test, and what runs it instead.
ELSEWHERE = {
    r"make\b": "the tests themselves; the demo is run by tests/test_demo.py",
    r"pip install|python3? -m venv|source ": "tests/test_packaging.py builds and installs",
    r"python benchmarks/|python3? benchmarks": "benchmarks take hours",
}


def blocks(document):
    """Return the code blocks of a document, split at blank lines."""
    text = document.read_text()
    fenced = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    whole = [*fenced, *(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in indented)]
    return [part for block in whole for part in re.split(r"\n\s*\n", block)]


def command_lines(document):
    """Return the command lines of a document in order, continuation lines joined, comments dropped."""
    lines = []
    for block in blocks(document):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = re.sub(r"\s+#.*", "", line).strip()
            if COMMAND.match(line) and "…" not in line:
                lines.append(line)
    return lines


def is_run_here(line):
    return not any(re.match(pattern, line) for pattern in ELSEWHERE)


def put_in_front_of_path(folder):
    """Write commands that add the flags of `SMALL` to what they are given, and start the real ones."""
    folder.mkdir()
    for name, flags in SMALL.items():
        in_this_process = "export nnUNet_n_proc_DA=0\n" if name == "nnUNetv2_train" else ""
        (folder / name).write_text(f'#!/bin/sh\n{in_this_process}exec "{BIN / name}" "$@" {flags}\n')
        (folder / name).chmod(0o755)


def run_script(lines, home):
    """Run command lines in one shell, which ends at the first that fails."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")},
        "PATH": f"{home / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        "nnUNet_extTrainer": str(Path(__file__).parent / "ext"),
        "nnUNet_compile": "f",
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    environment.pop("OMP_THREAD_LIMIT", None)
    script = "\n".join(lines).replace("/data/", f"{home / 'data'}/")
    result = subprocess.run(
        ["bash", "-e", "-x", "-c", script],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """The home of a user who has followed the README."""
    home = tmp_path_factory.mktemp("readme")
    put_in_front_of_path(home / "bin")
    run_script(filter(is_run_here, command_lines(DOCUMENTS[0])), home)
    return home


def test_lines_are_found():
    lines = command_lines(DOCUMENTS[0])
    assert "rl_nnunet_convert_mmwhs -i MMWHS -d 501" in lines
    assert any(line.startswith("nnUNetv2_predict -i") and "-f 0" in line for line in lines)


def test_readme(readme):
    assert list((readme / "segmentations").glob("*.nii.gz"))
    assert (readme / "segmentations" / "summary.json").is_file()
    assert list((readme / "for_brats").glob("*.nii.gz"))
