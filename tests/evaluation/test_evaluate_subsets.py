"""The command on a model without a network: which subsets it predicts, what it resumes, and what it refuses."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from counting_predictor import predict

from rl_nnunet.errors import InputError
from rl_nnunet.evaluation.evaluate_subsets import main
from rl_nnunet.evaluation.subset_prediction import evaluate_subsets
from rl_nnunet.evaluation.subsets import all_subsets, dice_per_case
from rl_nnunet.evaluation.trained_model import TrainedModel

MODALITIES = ("T1", "T2", "FLAIR")
# Of a, all subsets of three modalities; of b, which lacks one, those of two.
PREDICTIONS = 7 + 3


def read(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def evaluate(study, **options):
    options = {"device": "cpu", "allow_tqdm": False, **options}
    return evaluate_subsets(study.model, study.images, study.labels, study.output, **options)


def test_counts_are_those_of_images_with_blank_channels(study):
    counts = evaluate(study)
    assert len(study.loads) == 1
    assert len(study.predictor.images) == PREDICTIONS
    table = counts.set_index(["subset", "case", "label"])
    for case, lacking in (("a", ()), ("b", ("T2",))):
        reference = read(study.labels / f"{case}.nii.gz")
        for subset in all_subsets(MODALITIES):
            present = [name for name in subset if name not in lacking]
            if not present:
                assert ("+".join(subset), case, "whole") not in table.index
                continue
            image = np.stack([read(study.images / f"{case}_{c:04d}.nii.gz") for c in range(3)])
            for channel, name in enumerate(MODALITIES):
                image[channel] *= name in present
            prediction = predict(image)
            for label, values in {"whole": (1, 2), "core": (2,)}.items():
                masks = [np.isin(array, values) for array in (reference, prediction)]
                both = (masks[0] & masks[1]).sum()
                row = table.loc[("+".join(subset), case, label)]
                assert row["present"] == "+".join(present)
                assert row[["tp", "fp", "fn"]].tolist() == [both, masks[1].sum() - both, masks[0].sum() - both]


def test_dice_is_nnunets(study):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics

    dice = dice_per_case(evaluate(study, save_predictions=True))
    reader = study.model.plans.image_reader_writer_class()
    for subset, _, case in dice.index:
        files = [str(study.labels / f"{case}.nii.gz"), str(study.output / "predictions" / subset / f"{case}.nii.gz")]
        metrics = compute_metrics(*files, reader, list(study.model.labels.values()))["metrics"]
        expected = [metrics[label]["Dice"] for label in study.model.labels.values()]
        assert dice.xs((subset, case), level=("subset", "case")).squeeze().tolist() == expected


def test_ignored_voxels_do_not_count(study):
    description = json.loads((study.model.folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "edema": 1, "ignore": 2}
    (study.model.folder / "dataset.json").write_text(json.dumps(description))
    row = evaluate(study).query("subset == 'T1' and case == 'a'").iloc[0]
    reference = read(study.labels / "a.nii.gz")
    assert row["label"] == "edema"
    assert row["tp"] + row["fn"] == (reference == 1).sum()
    prediction = predict(read(study.images / "a_0000.nii.gz")[None])
    assert row["tp"] + row["fp"] == ((prediction == 1) & (reference != 2)).sum()


# ---- the command ---------------------------------------------------------------------------------------------------


def test_command_prints_and_writes_the_tables(study, run):
    outcome = run(main, *study.flags, "--erase", "core=500", "--disable_progress_bar")
    assert outcome.code == 0, outcome.err
    assert "| ● | ○ | ○ |" in outcome.out
    assert "core of fewer than 500 voxels erased" in outcome.out
    table = pd.read_csv(study.output / "dice_per_case.csv")
    erased = table[table["convention"] == "field"]
    assert (erased["core"] == 0).all()
    assert (erased["whole"] > 0).all()
    assert not (study.output / "predictions").exists()


def test_killed_run_goes_on_where_it_stopped(study, run):
    study.predictor.die_at = 4
    assert run(main, *study.flags).code == 130
    assert not (study.output / "summary.md").exists()
    study.predictor.die_at = None
    assert run(main, *study.flags).code == 0
    assert len(study.predictor.images) == PREDICTIONS
    resumed = {path.name: path.read_bytes() for path in study.output.glob("*.*")}
    assert run(main, *study.flags, "--overwrite").code == 0
    assert {path.name: path.read_bytes() for path in study.output.glob("*.*")} == resumed
    assert not [path for path in study.output.rglob("*") if "unfinished" in path.name]


def test_what_a_killed_run_leaves_does_not_stop_the_next(study):
    study.output.mkdir()
    for name in (".unfinished_settings.json", ".rl_nnunet_lock"):
        (study.output / name).write_text("{")
    assert len(evaluate(study)) == (7 + 6) * 2  # subsets of a and b, labels


def test_full_disk_ends_in_one_sentence(study, run, assert_refused_in_one_sentence, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rl_nnunet.evaluation.subset_results.json.dumps", full)
    assert_refused_in_one_sentence(run(main, *study.flags), study.output, "No space left on device")


def test_finished_run_is_not_repeated(study, run):
    assert run(main, *study.flags).code == 0
    study.loads.clear()
    outcome = run(main, *study.flags, "--erase", "core=10")
    assert "core of fewer than 10 voxels" in outcome.out
    assert study.loads == []


def test_predictions_that_are_asked_for_later_are_made(study, run):
    run(main, *study.flags)
    assert run(main, *study.flags, "--save_predictions").code == 0
    assert len(study.predictor.images) == 2 * PREDICTIONS
    files = {str(path.relative_to(study.output / "predictions")) for path in study.output.rglob("*.nii.gz")}
    names = {"+".join(subset) for subset in all_subsets(MODALITIES)}
    assert files == {f"{name}/{case}.nii.gz" for name in names for case in "ab"} - {"T2/b.nii.gz"}
    same = [(study.output / "predictions" / name / "b.nii.gz").read_bytes() for name in ("T1", "T1+T2")]
    assert same[0] == same[1]


def test_overwriting_leaves_what_others_put_there(study, run):
    run(main, *study.flags, "--save_predictions")
    note = study.output / "predictions" / "T1" / "note.txt"
    note.write_text("mine")
    (study.images / "b_0000.nii.gz").touch()
    assert run(main, *study.flags, "--overwrite").code == 0
    assert note.read_text() == "mine"
    assert list(study.output.rglob("*.nii.gz")) == []


# ---- what is refused -----------------------------------------------------------------------------------------------


def other_weights(study):
    (study.model.folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"others")


def other_images(study):
    os.utime(study.images / "a_0000.nii.gz", (0, 0))


def fewer_cases(study):
    for path in [*study.images.glob("b_*"), *study.labels.glob("b*")]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "flags", "what"),
    [
        (other_weights, (), "another model"),
        (other_images, (), "other cases"),
        (fewer_cases, (), "other cases"),
        (lambda study: None, ("--disable_tta",), "other settings of prediction"),
        (lambda study: None, ("-step_size", "0.7"), "other settings of prediction"),
    ],
)
def test_results_are_not_mixed(study, run, assert_refused_in_one_sentence, change, flags, what):
    run(main, *study.flags)
    change(study)
    outcome = run(main, *study.flags, *flags)
    assert_refused_in_one_sentence(outcome, study.output, what, "--overwrite")
    assert run(main, *study.flags, *flags, "--overwrite").code == 0


def remove(name):
    return lambda study: (study.output.parent / name).unlink()


def write(name, content):
    def change(study):
        (study.output.parent / name).parent.mkdir(exist_ok=True)
        (study.output.parent / name).write_bytes(content)

    return change


def cut(name):
    def change(study):
        path = study.output.parent / name
        path.write_bytes(path.read_bytes()[:-40])

    return change


def image_for_reference(study):
    shutil.copy(study.images / "a_0000.nii.gz", study.labels / "a.nii.gz")


def unknown_label(study):
    sitk.WriteImage(sitk.Image(6, 5, 4, sitk.sitkUInt8) + 9, study.labels / "a.nii.gz")


def stretch(study):
    """Describe a block of 3 m, of which the model would see voxels of a hundredth of a millimeter."""
    study.predictor.configuration_manager = SimpleNamespace(spacing=[0.01] * 3)
    for path in [*study.images.iterdir(), *study.labels.iterdir()]:
        image = sitk.ReadImage(path)
        image.SetSpacing([100.0] * 3)
        sitk.WriteImage(image, path)


def other_grid(study):
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkUInt8), study.labels / "a.nii.gz")


def nothing_in(case):
    def change(study):
        for path in study.images.glob(f"{case}_*"):
            sitk.WriteImage(sitk.Image(6, 5, 4, sitk.sitkUInt8), path)

    return change


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (remove("labelsTs/b.nii.gz"), ("labelsTs holds no b.nii.gz", "add the reference")),
        (remove("imagesTs/b_0002.nii.gz"), ("imagesTs/b_0002.nii.gz", "FLAIR", "zeros")),
        (write("imagesTs/a_0003.nii.gz", b""), ("a_0003.nii.gz", "does not have")),
        (remove("model/fold_0/checkpoint_final.pth"), ("fold_0/checkpoint_final.pth", "-f", "none")),
        (remove("model/plans.json"), ("no plans.json", "-m")),
        (write("model/dataset.json", b"{"), ("dataset.json", "not valid JSON")),
        (write("imagesTs/a_0001.nii.gz", b"no image"), ("imagesTs/a_0001.nii.gz", "not a readable image")),
        (write("labelsTs/a.nii.gz", b"no image"), ("labelsTs/a.nii.gz", "not a readable image")),
        (cut("imagesTs/a_0001.nii.gz"), ("imagesTs/a_0001.nii.gz", "is truncated")),
        (cut("labelsTs/a.nii.gz"), ("labelsTs/a.nii.gz", "is truncated")),
        (image_for_reference, ("labelsTs/a.nii.gz", "is no label map")),
        (unknown_label, ("labelsTs/a.nii.gz", "label values 9", "dataset.json does not name")),
        (stretch, ("imagesTs/a_0000.nii.gz", "GiB of memory", "mend its header")),
        (other_grid, ("labelsTs/a.nii.gz", "3x3x3", "4x5x6")),
        (nothing_in("b"), ("b_0000.nii.gz", "one value everywhere")),
        (write("out/thesis.txt", b""), ("out holds something else", "empty folder")),
        (write("out/settings.json", b"[]"), ("settings.json", "not from this command")),
        (write("out/settings.json", b"["), ("settings.json", "damaged")),
    ],
)
def test_bad_input_ends_in_one_sentence(study, run, assert_refused_in_one_sentence, change, fragments):
    change(study)
    assert_refused_in_one_sentence(run(main, *study.flags), *fragments)


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("-i", "nowhere"), ("nowhere", "-i")),
        (("-r", "nowhere"), ("nowhere", "-r")),
        (("-m", "nowhere"), ("nowhere", "dataset.json")),
        (("-f", "0", "3"), ("fold_3", "fold_0")),
        (("-chk", "checkpoint_best.pth"), ("checkpoint_best.pth",)),
        (("--erase", "enhancing=500"), ("enhancing", "whole, core")),
        (("-device", "cuda"), ("-device cpu",)),
    ],
)
def test_bad_flags_end_in_one_sentence(study, run, assert_refused_in_one_sentence, flags, fragments, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused_in_one_sentence(run(main, *study.flags, *flags), *fragments)
    assert not study.output.exists()


@pytest.mark.parametrize(
    "flags", [("--erase", "core"), ("--erase", "core=x"), ("-step_size", "0"), ("--tolerance", "-1"), ("-f", "x")]
)
def test_arguments_that_are_none(study, run, flags):
    assert run(main, *study.flags, *flags).code == 2


def test_model_of_a_data_set_is_found_as_in_prediction(study, run, assert_refused_in_one_sentence, nnunet_folders):
    words = ("-i", study.images, "-r", study.labels, "-o", study.output, "-f", 0, "-device", "cpu", "-d")
    assert "-d needs -c" in run(main, *words, "7").err
    assert_refused_in_one_sentence(run(main, *words, "7", "-c", "2d"), "-d 7", "-m")
    target = nnunet_folders / "nnUNet_results" / "Dataset007_Own" / "nnUNetTrainer__nnUNetPlans__2d"
    target.parent.mkdir()
    study.model.folder.rename(target)
    assert run(main, *words, "7", "-c", "2d").code == 0


def test_damaged_counts_are_named(study):
    evaluate(study)
    file = study.output / "counts" / "a.json"
    for content in ("{", "[]", '{"present": ["T1"]}'):
        file.write_text(content)
        with pytest.raises(InputError, match=r"a\.json is damaged"):
            evaluate(study)


def test_checkpoint_that_is_none_is_named(study, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(InputError, match="cannot be loaded"):
        TrainedModel(study.model.folder, (0,)).load("cpu", 0.5, mirroring=True)


def test_many_modalities_are_warned_of(study, run, monkeypatch):
    monkeypatch.setattr("rl_nnunet.evaluation.evaluate_subsets.MANY_MODALITIES", 2)
    assert "3 modalities have 7 subsets" in run(main, *study.flags).err
