"""Features against closed forms and other counts, and the two classifiers on features that tell the classes apart."""

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy import stats

from rl_nnunet.evaluation.radiomics import (
    GRAY_LEVELS,
    case_features,
    fit_and_score,
    intensity_features,
    radiomics_classifiers,
    shape_features,
    texture_features,
)

SPACING = (1.0, 2.0, 1.5)


def ball(radius, edge=40):
    """Return a mask of a ball of a radius in mm."""
    z, y, x = np.indices((edge, edge // 2, edge))
    distance = (z * 1.5 - 30) ** 2 + (y * 2.0 - 20) ** 2 + (x * 1.0 - 20) ** 2
    image = sitk.GetImageFromArray((distance < radius**2).astype(np.uint8))
    image.SetSpacing(SPACING)
    return image


def test_the_shape_of_a_ball():
    features = shape_features(ball(15) > 0)
    assert features["volume"] == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=0.02)
    assert features["surface"] == pytest.approx(4 * np.pi * 15**2, rel=0.05)
    assert features["roundness"] == pytest.approx(1, abs=0.05)
    assert features["elongation"] == pytest.approx(1, abs=0.05)
    assert features["diameter"] == pytest.approx(30, abs=2)
    assert shape_features(ball(0) > 0) == {}


def test_intensities():
    values = np.random.default_rng(0).gamma(2, 3, 5000)
    features = intensity_features(values)
    assert features["mean"] == pytest.approx(6, rel=0.05)
    assert features["skewness"] == pytest.approx(np.sqrt(2), rel=0.2)  # 2 / sqrt(shape)
    assert features["percentile50"] == pytest.approx(stats.gamma.median(2, scale=3), rel=0.05)
    assert "skewness" not in intensity_features(np.ones(9))


def test_texture_counts_neighbors_inside_of_the_mask():
    """Against a plain count of pairs of voxels, in four directions and both orders."""
    rng = np.random.default_rng(0)
    image, mask = rng.random((2, 6, 7)), rng.random((2, 6, 7)) > 0.3
    low, high = image[mask].min(), image[mask].max()
    levels = np.minimum((image - low) / (high - low) * GRAY_LEVELS, GRAY_LEVELS - 1).astype(int)
    counts = np.zeros((GRAY_LEVELS, GRAY_LEVELS))
    for z, y, x in np.argwhere(mask):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            other = z, y + dy, x + dx
            if 0 <= other[1] < 6 and 0 <= other[2] < 7 and mask[other]:
                counts[levels[z, y, x], levels[other]] += 1
                counts[levels[other], levels[z, y, x]] += 1
    shares = counts / counts.sum()
    i, j = np.indices(shares.shape)
    features = texture_features(image, mask)
    assert features["contrast"] == pytest.approx((shares * (i - j) ** 2).sum())
    assert features["homogeneity"] == pytest.approx((shares / (1 + (i - j) ** 2)).sum())
    assert features["energy"] == pytest.approx(np.sqrt((shares**2).sum()))
    assert texture_features(image[:, :1, :1], mask[:, :1, :1] | True) == {}  # no neighbors


def test_a_case_has_features_of_every_label_and_present_channel(tmp_path):
    label = ball(15)
    label += ball(8)  # 1 outside, 2 inside
    sitk.WriteImage(label, tmp_path / "label.nii.gz")
    noise = np.random.default_rng(0).normal(5, 1, sitk.GetArrayFromImage(label).shape)
    for name, values in {"T1": noise, "T2": noise * 0}.items():
        image = sitk.GetImageFromArray(values.astype(np.float32))
        image.CopyInformation(label)
        sitk.WriteImage(image, tmp_path / f"{name}.nii.gz")
    features = case_features({name: tmp_path / f"{name}.nii.gz" for name in ("T1", "T2")}, tmp_path / "label.nii.gz")
    assert features["all_volume"] == pytest.approx(features["label1_volume"] + features["label2_volume"])
    assert features["T1_mean"] == pytest.approx(0, abs=0.05)
    assert "T1_contrast" in features
    assert not any(name.startswith("T2") for name in features)


@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers_find_what_tells_the_classes_apart(monkeypatch, classes):
    monkeypatch.setattr("rl_nnunet.evaluation.radiomics.TREES", 10)
    rng = np.random.default_rng(0)
    labels = {f"case{i}": i % classes for i in range(60)}
    features = pd.DataFrame({"volume": [rng.normal(3 * label) for label in labels.values()]}, index=list(labels))
    features["noise"] = rng.normal(size=60)
    features.loc["case3", "noise"] = np.nan
    features["unknown"] = np.nan
    train, test = list(labels)[:45], list(labels)[45:]
    for classifier in radiomics_classifiers(0).values():
        scores = fit_and_score(classifier, features, labels, train, test)
        assert scores.shape == (15, classes)
        np.testing.assert_allclose(scores.sum(1), 1)
        assert np.mean(scores.argmax(1) == [labels[case] for case in test]) > 0.8
