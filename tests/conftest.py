"""What all tests share: an environment without the user's nnU-Net folders, and tiny data sets in nnU-Net's format."""

import json
import locale
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk

# What tqdm writes to standard error beside the sentences.
PROGRESS_BAR = re.compile(r"[^:]+: +\d+%\|")
CHECKOUT = Path(__file__).resolve().parent.parent

# No test may read or write the data of whoever runs it, and nnUNet_n_proc_DA=0 would crash the planner.
for _name in [name for name in os.environ if name.startswith("nnUNet_")]:
    del os.environ[_name]
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch):
    """Set nnU-Net's three folders to new ones; return their parent."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def run(nnunet_folders, monkeypatch, capfd):
    """Return a function that runs a command's `main` in this process, with the given arguments."""

    def run_main(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        return Outcome(code, *capfd.readouterr())

    return run_main


@pytest.fixture
def assert_refused_in_one_sentence():
    """Return a function that checks that a command ended in one sentence, exit code 2, and no traceback."""

    def check(outcome, *fragments):
        pieces = [piece.strip() for piece in outcome.err.replace("\r", "\n").split("\n") if piece.strip()]
        sentences = [piece for piece in pieces if not PROGRESS_BAR.match(piece)]
        assert len(sentences) == 1, outcome.err
        assert sentences[0].startswith("Error: ")
        for fragment in fragments:
            assert str(fragment) in sentences[0]
        assert outcome.code == 2

    return check


@pytest.fixture
def write_dataset(nnunet_folders):
    """Return a function that writes a data set of given images, and returns its folder."""

    def write(name, cases, branches, pairing="unpaired", channel_names=None):
        """Write `cases`: per case, its channels (shape c, z, y, x) and its segmentation (shape z, y, x)."""
        folder = nnunet_folders / "nnUNet_raw" / name
        for sub_folder in ("imagesTr", "labelsTr"):
            (folder / sub_folder).mkdir(parents=True)
        for case, (channels, segmentation) in cases.items():
            for index, channel in enumerate(np.asarray(channels, np.float32)):
                sitk.WriteImage(sitk.GetImageFromArray(channel), folder / "imagesTr" / f"{case}_{index:04d}.nii.gz")
            label = sitk.GetImageFromArray(segmentation.astype(np.uint8))
            sitk.WriteImage(label, folder / "labelsTr" / f"{case}.nii.gz")
        channel_names = channel_names or [channel for channels in branches.values() for channel in channels]
        dataset_json = {
            "channel_names": {str(index): channel for index, channel in enumerate(channel_names)},
            "labels": {"background": 0, "heart": 1},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
            "rl_nnunet": {"branches": branches, "pairing": pairing},
        }
        (folder / "dataset.json").write_text(json.dumps(dataset_json))
        return folder

    return write


@pytest.fixture
def write_dicom():
    """Return a function that writes a volume (z, y, x) of whole numbers as a DICOM series, one file a slice."""

    def write(folder, volume, spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0), direction=None, **options):
        """Write a series; `positions` replaces those of the slices, `series` and `frame` are UIDs."""
        direction = np.eye(3) if direction is None else direction
        series, frame = options.get("series", "1.2.826.1"), options.get("frame", "1.2.826.7")
        steps = np.arange(len(volume))[:, None] * direction[:, 2] * spacing[2]
        positions = options.get("positions", np.add(origin, steps))
        folder.mkdir(parents=True, exist_ok=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        before = locale.setlocale(locale.LC_ALL)
        for index, (values, position) in enumerate(zip(volume, positions, strict=True)):
            image = sitk.GetImageFromArray(values.astype(np.int16))
            image.SetSpacing(spacing[:2])
            tags = {
                "0008|0018": f"{series}.{index + 1}",
                "0008|0060": "MR",
                "0020|000d": "1.2.826.5",
                "0020|000e": series,
                "0020|0013": str(index),
                "0020|0032": "\\".join(f"{value:.6f}" for value in position),
                "0020|0037": "\\".join(f"{value:.6f}" for value in direction[:, :2].T.ravel()),
                "0020|0052": frame,
            }
            for key, value in tags.items():
                image.SetMetaData(key, value)
            # Names tell nothing of the order.
            writer.SetFileName(str(folder / f"{series}_{(7 * index) % len(volume)}_{index}.dcm"))
            writer.Execute(image)
        locale.setlocale(
            locale.LC_ALL, before
        )  # ITK leaves the process with that of C, and all that comes after with ASCII
        return folder

    return write


@pytest.fixture
def unpaired_cases():
    """Four cases of 12³ voxels: two CT (no MRI), two MRI (no CT), each with a cube of foreground."""
    rng = np.random.default_rng(0)
    cases = {}
    for index, name in enumerate(("ct_1", "ct_2", "mri_1", "mri_2")):
        channels = np.zeros((2, 12, 12, 12), np.float32)
        is_mri = name.startswith("mri")
        channels[int(is_mri)] = rng.normal(400 if is_mri else 100, 50, (12, 12, 12))
        segmentation = np.zeros((12, 12, 12), np.uint8)
        segmentation[2:10, 2:10, 2 : 8 + index % 2] = 1
        cases[name] = channels, segmentation
    return cases


@pytest.fixture
def fingerprint_in_threads(monkeypatch):
    """Let threads do the work of the fingerprint extractor's processes: starting those takes seconds.

    Only one reads scans, because their reader silences standard error for the whole process.
    """
    import nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor as stock

    import rl_nnunet.planners.fingerprint_extractor as ours

    context = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    monkeypatch.setattr(stock, "multiprocessing", context)
    monkeypatch.setattr(ours, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))


class Outcome(NamedTuple):
    """Of a command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


class Project:
    """nnU-Net's folders below one root, and the commands of this environment run on them.

    Attributes
    ----------
    name : str
        The data set.
    raw, preprocessed, results : Path
        Its folders; `results` may be replaced (see `with_results`).
    """

    def __init__(self, root, name):
        self.root = root
        self.name = name
        self.raw = root / "nnUNet_raw" / name
        self.preprocessed = root / "nnUNet_preprocessed" / name
        self.results = root / "nnUNet_results" / name

    @property
    def id(self):
        """nnU-Net's number of the data set, as text."""
        return str(int(self.name[7:10]))

    @property
    def environment(self):
        """Variables for the commands: our folders and trainers, few processes."""
        return {
            "nnUNet_raw": str(self.raw.parent),
            "nnUNet_preprocessed": str(self.preprocessed.parent),
            "nnUNet_results": str(self.results.parent),
            "nnUNet_extTrainer": os.pathsep.join(str(CHECKOUT / name) for name in ("trainers", "tests/trainers/ext")),
            "nnUNet_def_n_proc": "1",
            "nnUNet_compile": "f",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }

    def with_results(self, folder):
        """Return the same data set with another folder of results."""
        other = Project(self.root, self.name)
        other.results = folder / self.name
        return other

    def start(self, *words, **variables):
        """Start a command of the environment that runs the tests, whatever PATH says."""
        executable = Path(sys.executable).parent / words[0]
        environment = {**os.environ, **self.environment, **variables}
        # nnUNetv2_train asks for all cores; torch waits forever for threads that this limit denies it.
        environment.pop("OMP_THREAD_LIMIT", None)
        return subprocess.Popen(
            [str(executable), *map(str, words[1:])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
        )

    def run(self, *words, code=0, **variables):
        """Run a command, check its exit code, and return what it printed."""
        with self.start(*words, **variables) as process:
            try:
                output, _ = process.communicate(timeout=600)
            finally:
                process.kill()
        assert process.returncode == code, f"{' '.join(map(str, words))}:\n{output}"
        return output

    def train(self, trainer, *flags, plans="RLXAlignSmallPlans", configuration="3d_fullres", **options):
        """Train on the CPU without background workers; return what was printed."""
        words = ("nnUNetv2_train", self.id, configuration, "0", "-p", plans, "-tr", trainer, "-device", "cpu", *flags)
        return self.run(*words, nnUNet_n_proc_DA="0", **options)

    def plan(self, planner):
        """Plan and preprocess 3d_fullres."""
        self.run(
            "rl_nnunet_plan_and_preprocess", "-d", self.id, "-pl", planner, "-c", "3d_fullres", "-npfp", 1, "-np", 1
        )

    def model(self, trainer, plans="RLXAlignSmallPlans", configuration="3d_fullres"):
        """Return the model folder."""
        return self.results / f"{trainer}__{plans}__{configuration}"

    def predict(self, trainer, output, *flags, plans="RLXAlignSmallPlans", configuration="3d_fullres"):
        """Predict the test cases with the stock command."""
        self.run(
            "nnUNetv2_predict", "-i", self.raw / "imagesTs", "-o", output, "-d", self.id, "-c", configuration, "-f",
            "0", "-p", plans, "-tr", trainer, "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta", *flags,
        )  # fmt: skip


def make_project(root, name):
    """Make nnU-Net's folders below `root`, which may exist."""
    project = Project(root, name)
    for folder in (project.raw, project.preprocessed, project.results):
        folder.parent.mkdir(parents=True)
    return project


@pytest.fixture(scope="session", name="make_project")
def _make_project():
    """Return `make_project`, for fixtures that live longer than a test."""
    return make_project


@pytest.fixture
def new_project(tmp_path):
    """Return a function that makes an empty project of a given name."""
    return lambda name: make_project(tmp_path, name)


@pytest.fixture
def copy_raw():
    """Return a function that makes a project with the raw data of another, below another folder."""

    def copy(project, folder):
        other = make_project(folder, project.name)
        shutil.copytree(project.raw, other.raw)
        return other

    return copy


def make_heart_project(root, name):
    """Make a phantom of 24 voxels, 5 training cases and 1 test case per modality, and convert it; not planned yet."""
    project = make_project(root, name)
    phantom = root / "phantom"
    project.run(
        "rl_nnunet_make_phantom", "-o", phantom, "--cases", 5, "--test_cases", 1, "--size", 24, "--paired_test",
        "--test_labels", "-np", 1,
    )  # fmt: skip
    project.run(
        "rl_nnunet_convert_mmwhs", "-i", phantom, "-d", project.id, "-n", name.split("_", 1)[1], "--pair_test", "-np", 1
    )
    return project


@pytest.fixture(scope="session")
def hearts(tmp_path_factory):
    """Unpaired phantom hearts, planned with `RLXAlignSmallPlanner` and preprocessed for 3d_fullres, by the commands."""
    project = make_heart_project(tmp_path_factory.mktemp("hearts"), "Dataset901_Hearts")
    project.run(
        "rl_nnunet_plan_and_preprocess", "-d", project.id, "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp",
        1, "-np", 1,
    )  # fmt: skip
    return project


@pytest.fixture
def in_hearts(hearts, monkeypatch):
    """Set nnU-Net's folders to those of `hearts`."""
    for name, value in hearts.environment.items():
        monkeypatch.setenv(name, value)
    return hearts
