"""The sockets lie beside the package and are installed below it: that works as a wheel, editable and uninstalled."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

import pytest

import rl_nnunet

CHECKOUT = Path(__file__).resolve().parent.parent
SOCKETS = ("trainers", "planners", "dataset_conversion")

IMPORT_EVERYTHING = """
import sys
{preparation}
import rl_nnunet.branches, rl_nnunet.errors, rl_nnunet.trainers, rl_nnunet.planners, rl_nnunet.dataset_conversion
from rl_nnunet.environment import trainers_folder
for module in (rl_nnunet, rl_nnunet.trainers, rl_nnunet.planners, rl_nnunet.dataset_conversion):
    print(module.__file__)
print(trainers_folder() / "__init__.py")
"""


def imported_files(cwd, preparation="", **environment):
    """Import the package in a new interpreter; return the folders of its parts."""
    script = IMPORT_EVERYTHING.format(preparation=preparation)
    environment = {**os.environ, **environment}
    run = subprocess.run([sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [Path(line).resolve().parent for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build a wheel from a copy of the sources, which keeps its build files out of the checkout; return both."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(CHECKOUT / name, sources)
    for name in ("rl_nnunet", *SOCKETS):
        shutil.copytree(CHECKOUT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(sources / "dist")]
    run = subprocess.run(command, cwd=sources, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return sources, next((sources / "dist").glob("*.whl"))


def metadata_of(file):
    """Return the metadata of a wheel."""
    archive = zipfile.ZipFile(file)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


def test_wheel_contains_every_module(wheel):
    sources, file = wheel
    expected = {str(path.relative_to(sources)) for path in (sources / "rl_nnunet").rglob("*.py")}
    for socket in SOCKETS:
        expected |= {f"rl_nnunet/{path.relative_to(sources)}" for path in (sources / socket).rglob("*.py")}
    contents = {name for name in zipfile.ZipFile(file).namelist() if name.endswith(".py")}
    assert contents == expected


def test_wheel_declares_the_commands_and_the_license(wheel):
    _, file = wheel
    archive = zipfile.ZipFile(file)
    texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "rl_nnunet_env = rl_nnunet.environment_command:main" in texts["entry_points.txt"]
    assert "rl_nnunet_plan_and_preprocess = rl_nnunet.planners.plan_and_preprocess:main" in texts["entry_points.txt"]
    assert "Requires-Dist: nnunetv2" in texts["METADATA"]
    assert "Apache License" in texts["LICENSE"]


def test_wheel_says_that_it_is_typed(wheel):
    assert "rl_nnunet/py.typed" in zipfile.ZipFile(wheel[1]).namelist()


def test_wheel_describes_itself(wheel):
    metadata = metadata_of(wheel[1])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (CHECKOUT / "README.md").read_text().strip()
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    # One comma, between label and address.
    assert all(url.split(", ")[1].startswith("https://") for url in metadata.get_all("Project-URL"))


def test_one_version_everywhere(wheel):
    newest = re.search(r"^## (.*)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    # "[Unreleased] 0.1.0", or "[0.1.0] - 2026-01-31".
    in_changelog = re.fullmatch(r"\[Unreleased\] (\S+)|\[(\d\S*)\] - \d{4}-\d\d-\d\d", newest)
    assert in_changelog, newest
    assert (in_changelog[1] or in_changelog[2]) == rl_nnunet.__version__
    in_citation = re.search(r"^version: (.*)$", (CHECKOUT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert in_citation == rl_nnunet.__version__
    assert metadata_of(wheel[1])["Version"] == rl_nnunet.__version__


def test_import_from_the_wheel(wheel, tmp_path):
    _, file = wheel
    zipfile.ZipFile(file).extractall(tmp_path / "site")
    package = (tmp_path / "site" / "rl_nnunet").resolve()
    folders = imported_files(tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert folders == [package, *(package / socket for socket in SOCKETS), package / "trainers"]


def test_import_inside_a_checkout_that_is_not_installed():
    no_editable_install = "sys.meta_path = [f for f in sys.meta_path if 'Editable' not in getattr(f, '__name__', '')]"
    folders = imported_files(CHECKOUT, no_editable_install, PYTHONPATH="")
    assert folders == [CHECKOUT / name for name in ("rl_nnunet", *SOCKETS, "trainers")]


def test_import_of_the_editable_installation(tmp_path):
    # More than one, as the build files in a checkout count as a distribution, too.
    origins = [json.loads(found.read_text("direct_url.json") or "{}") for found in distributions(name="rl_nnunet")]
    if not any(origin.get("dir_info", {}).get("editable") for origin in origins):
        pytest.skip("rl_nnunet is not installed as editable")
    folders = imported_files(tmp_path, PYTHONPATH="")
    assert folders == [CHECKOUT / name for name in ("rl_nnunet", *SOCKETS, "trainers")]
