"""Models whose plans name nnU-Net's torch resampling for the export, by both commands for prediction."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from test_predict import stock_predict
from tiny_models import RL_U2NET, STOCK, write_model

from rl_nnunet.planners.fast_resampling import FastExport

CHECKOUT = Path(__file__).resolve().parents[2]


def documented_entries():
    """Return what docs/prediction.md says about plans of trained models."""
    text = (CHECKOUT / "docs" / "prediction.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return json.loads(f"{{{block}}}")


def make_fast(model):
    """Change the plans in a model's folder as it is documented."""
    plans = json.loads((model / "plans.json").read_text())
    for configuration in plans["configurations"].values():
        assert documented_entries().keys() <= configuration.keys()
        configuration |= documented_entries()
    (model / "plans.json").write_text(json.dumps(plans))


def test_documented_entries_are_those_of_the_planner():
    function, arguments = FastExport.determine_segmentation_softmax_export_fn(None)
    assert list(documented_entries().values()) == [function.__name__, arguments]


@pytest.mark.parametrize(("network", "dimension"), [(RL_U2NET, 3), (RL_U2NET, 2), (STOCK, 3)])
def test_segmentations_are_those_of_the_default(patient, predict, make_scan, values, network, dimension):
    for channel in (0, 1):
        scan = make_scan(channel, size=(28, 26, 9), spacing=(0.75, 0.7, 3.0), offset=100 + 300 * channel)
        sitk.WriteImage(scan, patient.images / f"p1_{channel:04d}.nii.gz")
    model = write_model(patient.root / "other", network, dimension)
    assert predict(model, patient.images, patient.root / "default").code == 0
    make_fast(model)
    outcome = predict(model, patient.images, patient.output, "--save_probabilities")
    assert outcome.code == 0, outcome.err
    stock_predict(model, {patient.root / "stock" / "p1": sorted(patient.images.iterdir())}, save_probabilities=True)
    assert (patient.output / "p1.nii.gz").read_bytes() == (patient.root / "stock" / "p1.nii.gz").read_bytes()
    probabilities = [np.load(folder / "p1.npz")["probabilities"] for folder in (patient.output, patient.root / "stock")]
    np.testing.assert_array_equal(*probabilities)
    fast, default = (values(folder / "p1.nii.gz") for folder in (patient.output, patient.root / "default"))
    assert len(np.unique(default)) > 1
    # The default rounds what it interpolates to nnU-Net's half precision; noise has many voxels at which labels tie.
    assert (fast != default).mean() < 0.002


def test_companions_on_their_grids(patient, predict, make_scan, values):
    mr = make_scan(1, size=(11, 15, 6), spacing=(1.7, 1.2, 4.0), origin=(-6.0, 5.0, 26.0), offset=400)
    sitk.WriteImage(mr, patient.images / "p1_0001.nii.gz")
    model = patient.root / "fast"
    shutil.copytree(patient.model, model)
    make_fast(model)
    for folder, output in ((patient.model, "default"), (model, "out")):
        outcome = predict(folder, patient.images, patient.root / output)
        assert outcome.code == 0, outcome.err
        assert "p1: CT with MR, by coordinates" in outcome.out
    for branch in ("CT", "MR"):
        fast, default = (values(patient.root / output / branch / "p1.nii.gz") for output in ("out", "default"))
        assert (fast != default).mean() < 0.002


@pytest.mark.slow
def test_from_planning_to_segmentations(hearts, tmp_path, values):
    plans = "RLXAlignSmallPlans_fast"
    printed = hearts.run(
        "rl_nnunet_plan_and_preprocess", "-d", hearts.id, "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp", 1,
        "-np", 1, "--fast_resampling",
    )  # fmt: skip
    assert "Resampling: torch for images, labels, predictions." in printed
    fast, default = (hearts.preprocessed / f"{name}_3d_fullres" for name in (plans, "RLXAlignSmallPlans"))
    cases = nnUNetDatasetBlosc2(str(fast)).identifiers
    images = [[nnUNetDatasetBlosc2(str(folder)).load_case(case)[0][:] for case in cases] for folder in (fast, default)]
    assert [image.shape for image in images[0]] == [image.shape for image in images[1]]
    assert any((one != other).any() for one, other in zip(*images, strict=True))  # linear, not cubic
    hearts.train("ShortTrainer", plans=plans)
    hearts.predict("ShortTrainer", tmp_path / "stock", plans=plans)
    hearts.run(
        "rl_nnunet_predict", "-i", hearts.raw / "imagesTs", "-o", tmp_path / "ours", "-d", hearts.id, "-c",
        "3d_fullres", "-f", 0, "-p", plans, "-tr", "ShortTrainer", "-device", "cpu", "-npp", 1, "-nps", 1,
        "--disable_tta",
    )  # fmt: skip
    segmentations = sorted((tmp_path / "stock").glob("*.nii.gz"))
    assert len(segmentations) == 3
    for segmentation in segmentations:
        np.testing.assert_array_equal(values(segmentation), values(tmp_path / "ours" / segmentation.name))
