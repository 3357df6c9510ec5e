"""nnU-Net's commands around a trained model: best configuration, ensembles, the model as a zip."""

import os
import re
from pathlib import Path

import pytest
import SimpleITK as sitk

TRAINERS = ("ShortTrainer", "ShortNoXAlign")
PLANS = "RLXAlignSmallPlans"
DOCUMENT = Path(__file__).parents[2] / "docs" / "prediction.md"


@pytest.fixture(scope="module")
def trained(hearts, tmp_path_factory):
    """Return a project with a fold of two trainers, with the probabilities of their validation."""
    project = hearts.with_results(tmp_path_factory.mktemp("results"))
    for trainer in TRAINERS:
        project.train(trainer, "--npz")
    return project


def voxels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


@pytest.mark.slow
def test_best_configuration_and_ensemble(trained, tmp_path):
    printed = trained.run(
        "nnUNetv2_find_best_configuration", trained.id, "-f", 0, "-c", "3d_fullres", "-p", PLANS, "-tr", *TRAINERS,
        "-np", 1,
    )  # fmt: skip
    assert "***Run inference like this:***" in printed
    for trainer in TRAINERS:
        trained.predict(trainer, tmp_path / trainer, "--save_probabilities")
    members = [tmp_path / trainer for trainer in TRAINERS]
    trained.run("nnUNetv2_ensemble", "-i", *members, "-o", tmp_path / "ensembled", "-np", 1)
    tests = sorted({name[:-12] for name in os.listdir(trained.raw / "imagesTs")})
    assert sorted(path.name[:-7] for path in (tmp_path / "ensembled").glob("*.nii.gz")) == tests


@pytest.mark.slow
def test_model_from_a_zip_predicts_the_same(trained, tmp_path):
    archive, model = tmp_path / "model.zip", ("-d", trained.id, "-c", "3d_fullres", "-tr", TRAINERS[0], "-p", PLANS)
    trained.run("nnUNetv2_export_model_to_zip", *model, "-o", archive, "-f", 0)
    elsewhere = trained.with_results(tmp_path / "elsewhere")
    elsewhere.results.parent.mkdir()
    elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", archive)
    for project, output in ((trained, tmp_path / "here"), (elsewhere, tmp_path / "there")):
        project.predict(TRAINERS[0], output)
    names = sorted(path.name for path in (tmp_path / "here").glob("*.nii.gz"))
    assert names
    for name in names:
        assert (voxels(tmp_path / "here" / name) == voxels(tmp_path / "there" / name)).all()


@pytest.mark.slow
def test_checkpoint_can_be_loaded_without_running_code(trained, monkeypatch):
    """As the documentation shows it."""
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(trained.model(TRAINERS[0]) / "fold_0")
    names = {}
    exec(snippet, names)
    assert {"network_weights", "rl_nnunet"} <= set(names["checkpoint"])
