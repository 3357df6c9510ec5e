"""The command on a small model folder and on folders of predictions: what it writes, and what it refuses."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from rl_nnunet.evaluation.report.command import main

SPACING = (0.8, 0.8, 4.0)
SHAPE = (4, 12, 10)
CASES = {"ct_1": 0, "ct_2": 0, "ct_3": 0, "mr_1": 1}
LABELS = {"background": 0, "heart": [1, 2], "atrium": 2, "ignore": 3}


def write(array, path):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))


def reference_of(index):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:9, 2 : 8 - index % 2] = 1
    labels[1:3, 4:7, 3:5] = 2
    labels[:, -1] = 3
    return labels


def prediction_of(index, shift):
    labels = np.roll(reference_of(index), shift, axis=1)
    labels[labels == 3] = 1
    return labels


@pytest.fixture
def model(nnunet_folders):
    """The folder of a model with one validated fold, and the data set it was trained on."""
    raw = nnunet_folders / "nnUNet_raw" / "Dataset501_Hearts"
    model = nnunet_folders / "nnUNet_results" / "Dataset501_Hearts" / "SomeTrainer__Plans__3d_fullres"
    validation = model / "fold_0" / "validation"
    for folder in (raw / "imagesTr", raw / "labelsTr", validation):
        folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index, (case, channel) in enumerate(CASES.items()):
        for other in range(2):
            values = generator.random(SHAPE) if other == channel else np.zeros(SHAPE)
            write(values.astype(np.float32), raw / "imagesTr" / f"{case}_{other:04d}.nii.gz")
        write(reference_of(index), raw / "labelsTr" / f"{case}.nii.gz")
        write(prediction_of(index, index), validation / f"{case}.nii.gz")
    description = {
        "channel_names": {"0": "CT", "1": "MRI"},
        "labels": LABELS,
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
        "rl_nnunet": {"branches": {"CT": ["CT"], "MRI": ["MRI"]}, "pairing": "unpaired"},
    }
    (model / "dataset.json").write_text(json.dumps(description))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(model / "fold_0" / "progress_rl.png")
    time = "2026-11-26 20:31:58.637510: "
    log = f"{time}Epoch 0 \n{time}train_loss 1.5 \n{time}val_loss 1.0 \n{time}Pseudo dice [0.5, 0.25] \n"
    (model / "fold_0" / "training_log_2026_11_26_20_31_57.txt").write_text(log)
    return model


@pytest.fixture
def references(model):
    return model.parents[2] / "nnUNet_raw" / "Dataset501_Hearts" / "labelsTr"


@pytest.fixture
def predictions(model, tmp_path):
    """A folder of predictions, as nnUNetv2_predict leaves it."""
    folder = tmp_path / "predictions"
    shutil.copytree(model / "fold_0" / "validation", folder)
    shutil.copy(model / "dataset.json", folder)
    return folder


class Page(HTMLParser):
    """Collects tags and what they refer to; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.links = [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_on_a_model(run, model, tmp_path):
    output = tmp_path / "report"
    outcome = run(main, "-m", model, "-o", output, "-np", 1)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in output.iterdir()} >= {"cases.csv", "summary.csv", "report.md", "report.html"}
    cases = pd.read_csv(output / "cases.csv")
    assert cases.groupby("branch")["case"].nunique().to_dict() == {"CT": 3, "MRI": 1}
    # The identical prediction, but for voxels that the reference ignores.
    assert cases.query("case == 'ct_1'")[["dice", "nsd", "hd95"]].to_numpy().tolist() == [[1, 1, 0]] * 2

    text = (output / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    # Box plots, three CT cases and one MRI case, two of the training.
    assert page.count["img"] == 1 + 3 + 1 + 2
    assert "script" not in page.count
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "http" not in text
    assert "MRI: only case, mr_1" in text
    assert "rl_nnunet 0." in text
    assert "| CT | heart | 3 |" in (output / "report.md").read_text(encoding="utf-8")


def test_dice_is_nnunets(run, model, references, tmp_path):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    run(main, "-m", model / "fold_0" / "validation", "-o", tmp_path / "report", "-np", 1)
    cases = pd.read_csv(tmp_path / "report" / "cases.csv").set_index(["case", "structure"])
    for case in CASES:
        files = [str(folder / f"{case}.nii.gz") for folder in (references, model / "fold_0" / "validation")]
        metrics = compute_metrics(*files, SimpleITKIO(), [(1, 2), 2], ignore_label=3)["metrics"]
        for structure, region in (("heart", (1, 2)), ("atrium", 2)):
            found = cases.loc[(case, structure)]
            assert found["dice"] == metrics[region]["Dice"]
            assert found["reference_voxels"] == metrics[region]["n_ref"]


def test_predictions_without_images_and_the_table_of_subsets(run, predictions, references, tmp_path):
    (predictions / "mr_1.nii.gz").unlink()
    subsets = tmp_path / "subsets"
    subsets.mkdir()
    table = {"subset": ["CT"] * 2, "convention": ["nnunet", "field"], "heart": [0.5, 0.625], "cases": [3, 3]}
    pd.DataFrame(table).to_csv(subsets / "dice_per_subset.csv", index=False)
    output = tmp_path / "report"
    outcome = run(main, "-p", predictions, "-r", references, "-o", output, "-np", 1, "--subsets", subsets)
    assert outcome.code == 0, outcome.err
    text = (output / "report.md").read_text(encoding="utf-8")
    assert "1 references have no prediction" in text
    assert "| all | heart | 3 |" in text
    assert "| CT | 0.6250 | 3 |" in text


def test_comparison(run, model, predictions, references, tmp_path):
    write(prediction_of(0, 3), predictions / "ct_1.nii.gz")
    for folder in (model / "fold_0" / "validation", predictions):
        (folder / "mr_1.nii.gz").unlink()
    images = references.parent / "imagesTr"
    output = tmp_path / "report"
    outcome = run(main, "--compare", model, predictions, "-r", references, "-i", images, "-o", output, "-np", 1)
    assert outcome.code == 0, outcome.err
    comparison = pd.read_csv(output / "comparison.csv")
    assert set(comparison["one"]) == {"SomeTrainer"}
    assert set(comparison["other"]) == {"predictions"}
    heart = comparison.query("metric == 'dice' and branch == 'CT' and structure == 'heart'").iloc[0]
    assert heart["pairs"] == 3
    assert heart["difference"] < 0
    assert np.isnan(heart["p"])  # three cases prove nothing
    assert "predictions − SomeTrainer" in (output / "report.md").read_text(encoding="utf-8")


def test_nothing_is_overwritten(run, model, tmp_path, assert_refused_in_one_sentence):
    output = tmp_path / "report"
    output.mkdir()
    for path in (model / "fold_0" / "validation").glob("ct_*"):
        path.unlink()
    (output / "thesis.md").write_text("mine")
    arguments = (main, "-m", model, "-o", output, "-np", 1, "--overwrite")
    assert_refused_in_one_sentence(run(*arguments), output)
    (output / "thesis.md").unlink()
    assert run(*arguments).code == 0
    assert_refused_in_one_sentence(run(*arguments[:-1]), "--overwrite")
    assert run(*arguments).code == 0


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


BAD = {
    "no folder": (lambda p, r: shutil.rmtree(p), "is no folder"),
    "no references": (lambda p, r: shutil.rmtree(r), "is no folder"),
    "one reference is missing": (lambda p, r: (r / "ct_2.nii.gz").unlink(), "has no reference"),
    "no dataset.json": (lambda p, r: (p / "dataset.json").unlink(), "-djfile"),
    "no labels": (lambda p, r: (p / "dataset.json").write_text('{"file_ending": ".nii.gz"}'), '"labels"'),
    "no predictions": (lambda p, r: [path.unlink() for path in p.glob("*.nii.gz")], "holds no predictions"),
    "unreadable": (lambda p, r: (p / "ct_2.nii.gz").write_bytes(b"?"), "ct_2.nii.gz is not a readable image"),
    "truncated": (lambda p, r: cut(p / "ct_2.nii.gz"), "ct_2.nii.gz is truncated"),
    "truncated reference": (lambda p, r: cut(r / "ct_2.nii.gz"), "ct_2.nii.gz is truncated"),
    "probabilities": (lambda p, r: write(np.full(SHAPE, 0.5), p / "ct_2.nii.gz"), "ct_2.nii.gz is no label map"),
    "an image": (lambda p, r: write(np.full(SHAPE, -500), p / "ct_2.nii.gz"), "ct_2.nii.gz is no label map"),
    "unknown label": (lambda p, r: write(np.full(SHAPE, 7), r / "ct_2.nii.gz"), "label values 7, which dataset.json"),
    "another size": (lambda p, r: write(np.zeros((4, 12, 11), np.uint8), p / "ct_2.nii.gz"), "(4, 12, 11)"),
    "another spacing": (
        lambda p, r: sitk.WriteImage(sitk.GetImageFromArray(reference_of(1)), str(p / "ct_2.nii.gz")),
        "voxels of 1x1x1 mm",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_are_refused(name, run, predictions, references, tmp_path, assert_refused_in_one_sentence):
    spoil, fragment = BAD[name]
    spoil(predictions, references)
    output = tmp_path / "report"
    outcome = run(main, "-p", predictions, "-r", references, "-o", output, "-np", 1)
    assert_refused_in_one_sentence(outcome, fragment)
    assert not output.exists()


def test_bad_arguments_are_refused(run, model, predictions, tmp_path, assert_refused_in_one_sentence):
    output = ("-o", tmp_path / "report", "-np", 1)
    assert_refused_in_one_sentence(run(main, "-p", predictions, *output), "-r")
    assert_refused_in_one_sentence(run(main, "-m", model, "-f", 3, *output), "fold_3")
    assert_refused_in_one_sentence(run(main, "-m", model / "fold_0", "-f", 0, *output), "leave out -f")
    assert_refused_in_one_sentence(run(main, "--compare", model, *output), "two folders or more")
    assert_refused_in_one_sentence(run(main, "--compare", model, model, *output), "named twice")
    assert_refused_in_one_sentence(run(main, "-m", model, "--subsets", tmp_path, *output), "dice_per_subset.csv")
    (model / "fold_1").mkdir()
    shutil.copytree(model / "fold_0" / "validation", model / "fold_1" / "validation")
    assert_refused_in_one_sentence(run(main, "-m", model, *output), "are of one case")


def test_images_of_two_dimensions(run, tmp_path):
    for name in ("images", "references", "predictions"):
        (tmp_path / name).mkdir()
    generator = np.random.default_rng(0)
    for index in range(2):
        labels = np.zeros((20, 30), np.uint8)
        labels[5:12, 6:20] = 1
        Image.fromarray(generator.integers(0, 255, (20, 30), np.uint8)).save(tmp_path / f"images/p{index}_0000.png")
        Image.fromarray(labels).save(tmp_path / f"references/p{index}.png")
        Image.fromarray(np.roll(labels, 2, axis=1)).save(tmp_path / f"predictions/p{index}.png")
    description = {"channel_names": {"0": "X"}, "labels": {"background": 0, "lung": 1}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    folders = ("-p", tmp_path / "predictions", "-r", tmp_path / "references", "-i", tmp_path / "images")
    outcome = run(main, *folders, "-djfile", tmp_path / "dataset.json", "-o", tmp_path / "report", "-np", 1)
    assert outcome.code == 0, outcome.err
    cases = pd.read_csv(tmp_path / "report" / "cases.csv")
    assert cases["branch"].tolist() == ["X", "X"]
    assert cases["dice"].tolist() == pytest.approx([12 / 14] * 2)
    assert cases["hd95"].tolist() == [2, 2]
