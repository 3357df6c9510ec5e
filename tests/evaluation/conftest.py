"""A model folder without a network, and cases for it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from counting_predictor import CountingPredictor

from rl_nnunet.evaluation.trained_model import TrainedModel

MODALITIES = ("T1", "T2", "FLAIR")
LABELS = {"background": 0, "whole": [1, 2], "core": 2}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A model whose predictor is a `CountingPredictor`, two cases (the second lacks T2), and an output folder."""
    monkeypatch.setenv("nnUNet_extTrainer", "")  # the command adds ours
    predictor = CountingPredictor()
    loads = []
    monkeypatch.setattr(TrainedModel, "load", lambda self, *_, **__: loads.append(self) or predictor)
    model = tmp_path / "model"
    (model / "fold_0").mkdir(parents=True)
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")
    names = {str(index): name for index, name in enumerate(MODALITIES)}
    description = {"channel_names": names, "labels": LABELS, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}
    (model / "dataset.json").write_text(json.dumps(description))
    plans = {"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager"}
    (model / "plans.json").write_text(json.dumps(plans))
    images, labels = tmp_path / "imagesTs", tmp_path / "labelsTs"
    for folder in (images, labels):
        folder.mkdir()
    generator = np.random.default_rng(0)
    for case in ("a", "b"):
        for channel in range(3):
            values = generator.random((4, 5, 6)).astype(np.float32) * 2
            values = np.full_like(values, 7) if (case, channel) == ("b", 1) else values
            sitk.WriteImage(sitk.GetImageFromArray(values), images / f"{case}_{channel:04d}.nii.gz")
        reference = generator.integers(0, 3, (4, 5, 6)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(reference), labels / f"{case}.nii.gz")
    return SimpleNamespace(
        model=TrainedModel(model, (0,)),
        images=images,
        labels=labels,
        output=tmp_path / "out",
        predictor=predictor,
        loads=loads,
        flags=("-i", images, "-r", labels, "-o", tmp_path / "out", "-m", model, "-f", 0, "-device", "cpu"),
    )
