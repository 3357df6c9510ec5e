"""Every command line of the README and the docs is run as it is written, on small data, by nnU-Net's real commands.

What is small: the data behind the folders that the docs name, the schedules of the trainers, and what the flags of
`SMALL` say, which a command gets behind those that are written.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent

COMMAND = re.compile(r"(?:[A-Za-z_]\w*=\S* )*(rl_nnunet_\w+|nnUNetv2_\w+|make|pip|python3?|source|eval|export) ?")
SMALL = {
    "rl_nnunet_make_phantom": "--cases 5 --test_cases 1 --size 24 -np 1",
    "rl_nnunet_plan_and_preprocess": "-npfp 1 -np 1",
    "nnUNetv2_plan_and_preprocess": "-npfp 1 -np 1",
    "nnUNetv2_train": "-device cpu",
    "rl_nnunet_train_folds": "-f 0 1 --devices cpu",
    "nnUNetv2_predict": "-device cpu -npp 1 -nps 1 --disable_tta",
    "rl_nnunet_predict": "-device cpu -npp 1 -nps 1 --disable_tta",
    "nnUNetv2_ensemble": "-np 1",
    "rl_nnunet_evaluate_subsets": "-device cpu --disable_tta",
    "rl_nnunet_report": "-np 1",
    "rl_nnunet_classify": "-device cpu --disable_tta",
    "rl_nnunet_cross_validate": "-device cpu",
    "rl_nnunet_convert_images_2d": "-np 1",
    "rl_nnunet_convert_lndb": "-np 1",
    "nnUNetv2_evaluate_folder": "-np 1",
    "nnUNetv2_find_best_configuration": "-np 1",
}
# What cannot run within a test, and what runs it instead.
ELSEWHERE = {
    r"make\b": "the tests themselves; the demo is run by tests/test_demo.py",
    r"pip install|python3? -m venv|source ": "tests/test_packaging.py builds and installs",
    r"(\w+=\S* )*python benchmarks/": "benchmarks take hours",
    r"nnUNetv2_train .*-num_gpus ": "tests/trainers/test_several_ranks.py trains with two processes on a CPU",
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
        trains = name in ("nnUNetv2_train", "rl_nnunet_train_folds")
        in_this_process = "export nnUNet_n_proc_DA=0\n" if trains else ""
        # Who names devices needs no device.
        where = 'case "$*" in *--devices*) where="";; *) where="-device cpu";; esac\n' if "-device cpu" in flags else ""
        words = f'"{BIN / name}" "$@" {flags.replace("-device cpu", "$where")}'
        (folder / name).write_text(f"#!/bin/sh\n{in_this_process}{where}exec {words}\n")
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
    script = "\n".join(lines).replace("/path/to/data", "/data/own").replace("/data/", f"{home / 'data'}/")
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


@pytest.fixture
def home(tmp_path):
    """The home of a user with an empty project."""
    put_in_front_of_path(tmp_path / "bin")
    return tmp_path


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """The home of a user who has followed the README."""
    home = tmp_path_factory.mktemp("readme")
    put_in_front_of_path(home / "bin")
    run_script(filter(is_run_here, command_lines(CHECKOUT / "README.md")), home)
    return home


def follow(document, home):
    """Run the command lines of a document of the docs, in a shell that knows where the user's data are."""
    lines = [line for line in command_lines(CHECKOUT / "docs" / document) if is_run_here(line)]
    assert lines
    return run_script(['eval "$(rl_nnunet_env --root data)"', *lines], home)


def test_every_document_with_commands_is_followed_by_a_test():
    followed = {
        "README.md", "apga.md", "augmentation_policy.md", "classification.md", "conversion.md", "installation.md",
        "phantoms.md", "prediction.md", "training.md",
    }  # fmt: skip
    with_commands = {path.name for path in DOCUMENTS if any(map(is_run_here, command_lines(path)))}
    assert with_commands == followed


def test_lines_are_found():
    lines = command_lines(CHECKOUT / "README.md")
    assert "rl_nnunet_convert_mmwhs -i MMWHS -d 501" in lines
    assert any(line.startswith("nnUNetv2_predict -i") and "-f 0" in line for line in lines)


@pytest.mark.slow
def test_readme(readme):
    assert list((readme / "segmentations").glob("*.nii.gz"))
    assert (readme / "segmentations" / "summary.json").is_file()
    assert list((readme / "for_brats").glob("*.nii.gz"))


@pytest.mark.slow
def test_training(readme):
    follow("training.md", readme)
    script = (readme / "folds.sh").read_text(encoding="utf-8")
    assert " 3d_fullres $SLURM_ARRAY_TASK_ID -tr RLXAlignTrainerNoCMA " in script


@pytest.mark.slow
def test_apga(readme):
    follow("apga.md", readme)
    assert list((readme / "masked_training").glob("*.nii.gz"))


@pytest.mark.slow
def test_augmentation_policy(readme):
    follow("augmentation_policy.md", readme)
    assert list((readme / "adjusted_training").glob("*.nii.gz"))


@pytest.mark.slow
def test_prediction(readme):
    follow("prediction.md", readme)
    assert list((readme / "ensembled").glob("*.nii.gz"))
    assert list((readme / "any_scan").glob("*.nii.gz"))
    assert (readme / "one_scan" / "mr_test_2001_image.nii.gz").is_file()
    assert list((readme / "by_heart_model").glob("*.nii.gz"))
    assert "# heart_model" in (readme / "heart_model" / "README.md").read_text()
    assert "Training</h2>" in (readme / "report" / "report.html").read_text(encoding="utf-8")
    assert (readme / "report_of_test_scans" / "cases.csv").is_file()
    assert (readme / "side_by_side" / "comparison.csv").is_file()
    assert "| ● | ● | ● | ● |" in (readme / "subsets" / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_classification(home):
    """With the planner for CPUs in the place of the one for GPUs, and two folds in the place of five."""
    data = home / "data"
    phantom = f"{BIN / 'rl_nnunet_make_phantom'} brats --year 2020 --cases 24 --test_cases 2 --size 24 --test_labels"
    run_script([f"{phantom} -np 1 -o /data/BraTS2020"], home)
    write_nodules(data / "LNDb")
    for number in range(10):
        write_picture(data / "xrays" / ("normal", "pneumonia")[number % 2] / f"{number}.png")
    lines = [line for line in command_lines(CHECKOUT / "docs" / "classification.md") if is_run_here(line)]
    small = [re.sub(r"Classification(Planner|Plans)", r"ClassificationSmall\1", line) for line in lines]
    for command, flags in (("classify", ""), ("cross_validate", " -k 2")):
        name = f"rl_nnunet_{command}"
        small = [f"{line} -p ClassificationSmallPlans{flags}" if line.startswith(name) else line for line in small]
    raw, new = data / "nnUNet_raw" / "Dataset511_Survival", "/data/BraTS2020/new"
    links = [f"ln -s {raw}/imagesTs {new}", f"ln -s {raw}/labelsTs {new}_segmentations"]
    run_script(['eval "$(rl_nnunet_env --root data)"', small[0], *links, *small[1:]], home)
    assert len((home / "predictions.csv").read_text().splitlines()) == 3
    assert "| radiomics, SVC |" in (home / "cross_validation" / "summary.md").read_text(encoding="utf-8")


def write_nodules(folder):
    """Write six scans in the layout of LNDb, of 60 mm a side and with two nodules each."""
    rows = ["LNDbID,RadID,RadFindingID,FindingID,x,y,z,AgrLevel,Nodule,Volume,Text"]
    for number in range(1, 7):
        values = np.random.default_rng(number).integers(-1000, 200, (20, 20, 20)).astype(np.int16)
        scan = sitk.GetImageFromArray(values)
        scan.SetSpacing((3.0, 3.0, 3.0))
        folder.mkdir(exist_ok=True)
        sitk.WriteImage(scan, folder / f"LNDb-{number:04d}.mhd")
        textures = ((1, 3), (3, 5), (5, 1))[number % 3]
        rows += [f'{number},"1,2","1,1",{f},{20 * f},30,30,2,1,99,{t}' for f, t in enumerate(textures, start=1)]
    (folder / "trainNodules_gt.csv").write_text("\n".join(rows))


def write_picture(path):
    """Write noise as a picture of 8 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values), path)


def test_installation(home):
    assert "PROBLEM" not in follow("installation.md", home)


def test_phantoms(home):
    follow("phantoms.md", home)
    assert (home / "phantom" / "ct_train").is_dir()


# ---- conversion ----------------------------------------------------------------------------------------------------

# Folders that docs/conversion.md names: files of a case, and the values (0 first) of those that are label maps.
HEART_MASKS = ("heart_myocardium", "heart_ventricle_left", "heart_atrium_left")
FILES = {
    "ct/{case}.nii.gz": None,
    "ct_labels/{case}.nii.gz": (0, 1, 2),
    "mr/{case}_image.nii.gz": None,
    "mr/{case}_label.nii.gz": (0, 1, 2),
    "mr_hearts/{case}.nii.gz": None,
    "mr_hearts/{case}_label.nii.gz": (0, 200, 500, 420),
    **{f"tumors/{{case}}/{name}.nii.gz": None for name in ("t1", "t1ce", "t2", "flair")},
    "tumors/{case}/seg.nii.gz": (0, 1, 2),
    **{f"myops/{{case}}/{{case}}_{name}.nii.gz": None for name in ("C0", "LGE", "T2")},
    "myops/{case}/{case}_gd.nii.gz": (0, 200, 500, 600, 1220, 2221),
    **{f"ISLES-2022/{{case}}/ses-0001/dwi/{{case}}_ses-0001_{name}.nii.gz": None for name in ("dwi", "adc")},
    "ISLES-2022/derivatives/{case}/ses-0001/{case}_ses-0001_msk.nii.gz": (0, 1),
    "Totalsegmentator_dataset/{case}/ct.nii.gz": None,
    **{f"Totalsegmentator_dataset/{{case}}/segmentations/{name}.nii.gz": (0, 1) for name in HEART_MASKS},
}
# MS-CMRSeg, whose patients have numbers.
CONTRASTS = {"bSSFP": (range(13, 33), "C0"), "LGE": (range(24, 46), "LGE")}


def write_scan(path, values=None):
    """Write noise, or a label map of all the given values."""
    generator = np.random.default_rng(0)
    voxels = generator.integers(-900, 900, (6, 8, 8)) if values is None else generator.choice(values, (6, 8, 8))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(voxels.astype(np.int16)), path)


def write_data(data):
    """Write what lies behind ``/data`` in the docs."""
    for pattern, values in FILES.items():
        for case in ("one", "two", "three", "four", "five"):
            write_scan(data / pattern.replace("{case}", case), values)
    for contrast, (patients, suffix) in CONTRASTS.items():
        for number in patients:
            stem = data / "mscmr" / contrast / f"patient{number}_{suffix}"
            write_scan(Path(f"{stem}.nii.gz"))
            write_scan(Path(f"{stem}_manual.nii.gz"), (0, 200, 500, 600))


def write_dataset_without_branches(raw):
    """Write CT and MRI of different patients, absent channels zero, in nnU-Net's format and without our key."""
    folder = raw / "Dataset505_Own"
    for index in range(6):
        for channel in range(2):
            write_scan(folder / "imagesTr" / f"p{index}_{channel:04d}.nii.gz", None if index % 2 == channel else (0, 0))
        write_scan(folder / "labelsTr" / f"p{index}.nii.gz", (0, 1))
    content = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": {"background": 0, "heart": 1}, "numTraining": 6}
    (folder / "dataset.json").write_text(json.dumps({**content, "file_ending": ".nii.gz"}))


@pytest.mark.slow
def test_conversion(home):
    data = home / "data"
    brats = "rl_nnunet_make_phantom brats --year 2021 -o /data/BraTS2021"
    run_script(["rl_nnunet_make_phantom -o /data/MMWHS", brats], home)
    write_data(data)
    write_dataset_without_branches(data / "nnUNet_raw")
    follow("conversion.md", home)
    assert "rl_nnunet" in json.loads((data / "nnUNet_raw" / "Dataset505_Own" / "dataset.json").read_text())
    converted = {path.name for path in (data / "nnUNet_raw").iterdir()}
    assert {"Dataset531_MyoPS", "Dataset532_ISLES", "Dataset533_Heart", "Dataset521_MSCMR"} <= converted
