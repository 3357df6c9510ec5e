"""``rl_nnunet_export_model``: the same segmentations without a pickle, a card, and what is not loaded."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_models import RL_U2NET, STOCK, write_model

from rl_nnunet.sharing.export_model import main


@pytest.fixture
def export(run):
    """Return a function that runs the command in this process."""
    return lambda model, output, *flags: run(main, "-m", model, "-o", output, *flags)


@pytest.mark.parametrize("network", [RL_U2NET, STOCK])
def test_an_exported_model_predicts_the_same(patient, predict, export, network):
    model, exported = write_model(patient.root / "other", network, folds=(0, 1)), patient.root / "exported"
    outcome = export(model, exported, "-f", 0, 1)
    assert outcome.code == 0, outcome.err
    files = {file.relative_to(exported).as_posix() for file in exported.rglob("*") if file.is_file()}
    weights = {"fold_0/weights.safetensors", "fold_1/weights.safetensors"}
    assert weights | {"README.md", "model.json", "plans.json", "dataset.json"} <= files
    assert not any(name.endswith((".pth", ".pkl")) for name in files)
    outputs = patient.root / "by_checkpoints", patient.root / "by_exported"
    for folder, output in zip((model, exported), outputs, strict=True):
        outcome = predict(folder, patient.images, output, "-f", 0, 1, "--save_probabilities")
        assert outcome.code == 0, outcome.err
    before, after = (np.load(output / "p1.npz")["probabilities"] for output in outputs)
    np.testing.assert_array_equal(before, after)


def test_the_card_says_what_it_was_trained_on_and_how_good_it_was(patient, export):
    validation = patient.model / "fold_0" / "validation"
    validation.mkdir()
    (validation / "summary.json").write_text(json.dumps({"foreground_mean": {"Dice": 0.81234}}))
    per_branch = {"CT": {"cases": 3.0, "mean": 0.9}, "MR": {"cases": 2.0, "mean": 0.7}}
    (validation / "summary_per_branch.json").write_text(json.dumps(per_branch))
    exported = patient.root / "exported"
    assert export(patient.model, exported, "-f", 0, "--licence", "CC-BY-4.0").code == 0
    card = (exported / "README.md").read_text()
    for text in ("0.8123", "CT, 3 cases | 0.9000", "MR, 2 cases | 0.7000", "CC-BY-4.0", "ventricle, myocardium"):
        assert text in card
    assert "Dataset001_Tiny, 4 training cases" in card


def test_a_fold_without_validation_has_no_figure(patient, export):
    assert export(patient.model, patient.root / "exported", "-f", 0).code == 0
    assert "| fold_0 | all | not validated |" in (patient.root / "exported" / "README.md").read_text()


def test_nothing_is_replaced_without_being_told(patient, export):
    exported = patient.root / "exported"
    assert export(patient.model, exported, "-f", 0).code == 0
    outcome = export(patient.model, exported, "-f", 0)
    assert outcome.code != 0
    assert "--overwrite" in outcome.err
    assert export(patient.model, exported, "-f", 0, "--overwrite").code == 0
    outcome = export(exported, patient.root / "again", "-f", 0)
    assert "is an exported model already" in outcome.err


def test_a_fold_that_is_not_there(patient, export, predict):
    outcome = export(patient.model, patient.root / "exported", "-f", 0, 3)
    assert outcome.code != 0
    assert "fold_3" in outcome.err
    assert not (patient.root / "exported").exists()
    assert export(patient.model, patient.root / "exported", "-f", 0).code == 0
    outcome = predict(patient.root / "exported", patient.images, patient.output, "-f", 2)
    assert outcome.code != 0
    assert "fold_0" in outcome.err


def changed(file, *keys, value):
    content = json.loads(file.read_text())
    entry = content
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    file.write_text(json.dumps(content))


ARCHITECTURE = ("configurations", "3d_fullres", "architecture")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*ARCHITECTURE, "network_class_name"), "subprocess.Popen"),
        ((*ARCHITECTURE, "network_class_name"), "rl_nnunet.networks.rl_u2net.torch.os.system"),
        ((*ARCHITECTURE, "arch_kwargs", "nonlin"), "os.system"),
        ((*ARCHITECTURE, "arch_kwargs", "nonlin"), "torch.nn.functional.torch.os.system"),
        ((*ARCHITECTURE, "arch_kwargs", "nonlin"), "torch.nn.functional.relu"),
        ((*ARCHITECTURE, "arch_kwargs", "norm_op"), ["torch.nn.Identity"]),
    ],
)
def test_plans_that_name_other_packages_are_not_loaded(patient, export, predict, keys, value):
    exported = patient.root / "exported"
    assert export(patient.model, exported, "-f", 0).code == 0
    changed(exported / "plans.json", *keys, value=value)
    outcome = predict(exported, patient.images, patient.output)
    assert outcome.code != 0
    assert "neither of nnU-Net's libraries nor of ours" in outcome.err
    assert not patient.output.exists()
    changed(patient.model / "plans.json", *keys, value=value)
    assert "neither of nnU-Net's libraries nor of ours" in export(patient.model, patient.root / "other", "-f", 0).err
    assert not (patient.root / "other").exists()


@pytest.mark.parametrize(
    ("keys", "value"), [(("format",), 2), (("trainer",), 5), (("mirroring_axes",), [7]), (("surprise",), 1)]
)
def test_a_description_that_is_none(patient, export, predict, keys, value):
    exported = patient.root / "exported"
    assert export(patient.model, exported, "-f", 0).code == 0
    changed(exported / "model.json", *keys, value=value)
    outcome = predict(exported, patient.images, patient.output)
    assert outcome.code != 0
    assert "model.json is not what this version of rl_nnunet writes" in outcome.err


def test_damaged_weights(patient, export, predict):
    exported = patient.root / "exported"
    assert export(patient.model, exported, "-f", 0).code == 0
    file = exported / "fold_0" / "weights.safetensors"
    assert load_file(file)
    file.write_bytes(file.read_bytes()[:100])
    outcome = predict(exported, patient.images, patient.output)
    assert outcome.code != 0
    assert "cannot be loaded" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
