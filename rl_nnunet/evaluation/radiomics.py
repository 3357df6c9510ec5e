"""The baseline that asks for no network: features of shape, intensity and texture, with the age, and two classifiers.

Shape is that of all that is labeled and of each label (SimpleITK: volume, surface, elongation, flatness, roundness,
diameter); where images are classified as a whole, it says little. Intensities are those inside of what is labeled,
standardized by the image's own mean and deviation where it is not 0. Textures are those of Haralick's co-occurrence
matrices (scikit-image), of the slices, over four directions, on 16 gray levels: it has no matrices of volumes. These
are the usual kinds of features, not those of a standard such as IBSI.

A channel that a case does not have, or a label that does not occur, has no features; the median (for the SVC the mean)
of the others stands in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import stats
from skimage.feature import graycomatrix, graycoprops
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rl_nnunet import scans
from rl_nnunet.presence.cases import constant_value

GRAY_LEVELS = 16
DIRECTIONS = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
TEXTURES = ("contrast", "homogeneity", "energy", "correlation")
PERCENTILES = (10, 50, 90)
TREES = 200


def case_features(images: Mapping[str, Path], label: Path) -> dict[str, float]:
    """Return the features of a case by their names.

    Parameters
    ----------
    images : mapping of str to Path
        File of each channel.
    label : Path
        The label map.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    labels = scans.read_volume(label)
    mask = sitk.GetArrayFromImage(labels) > 0
    features = {f"all_{name}": value for name, value in shape_features(labels > 0).items()}
    for value in np.unique(sitk.GetArrayViewFromImage(labels)):
        if value > 0:
            found = shape_features(labels == float(value))
            features |= {f"label{int(value)}_{name}": each for name, each in found.items()}
    for channel, file in images.items():
        image = sitk.GetArrayFromImage(scans.read_volume(file)).astype(np.float64)
        if mask.any() and constant_value(image) is None:
            filled = image[image != 0]
            image = (image - filled.mean()) / filled.std()
            found = {**intensity_features(image[mask]), **texture_features(image, mask)}
            features |= {f"{channel}_{name}": value for name, value in found.items()}
    return features


def shape_features(mask: sitk.Image) -> dict[str, float]:
    """Return the features of a mask's shape, with lengths in mm and the volume in ml; none of an empty mask."""
    measured = sitk.LabelShapeStatisticsImageFilter()
    measured.ComputeFeretDiameterOn()
    measured.Execute(sitk.Cast(mask, sitk.sitkUInt8))
    if not measured.HasLabel(1):
        return {}
    return {
        "volume": measured.GetPhysicalSize(1) / 1000,
        "surface": measured.GetPerimeter(1),
        "elongation": measured.GetElongation(1),
        "flatness": measured.GetFlatness(1),
        "roundness": measured.GetRoundness(1),
        "diameter": measured.GetFeretDiameter(1),
    }


def intensity_features(values: np.ndarray) -> dict[str, float]:
    """Return the first-order features of some values."""
    percentiles = {f"percentile{p}": float(np.percentile(values, p)) for p in PERCENTILES}
    shares = np.histogram(values, GRAY_LEVELS)[0] / len(values)
    moments = {"mean": values.mean(), "deviation": values.std(), "entropy": stats.entropy(shares)}
    if values.std() > 0:
        moments |= {"skewness": stats.skew(values), "kurtosis": stats.kurtosis(values)}
    return {**percentiles, **{name: float(value) for name, value in moments.items()}}


def texture_features(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return the texture inside of a mask: pairs of neighbors in a slice of which both lie in it."""
    lowest, highest = image[mask].min(), image[mask].max()
    scaled = (image - lowest) / max(highest - lowest, np.finfo(float).tiny)
    # Level 0 is what lies outside; its pairs are dropped.
    levels = np.where(mask, 1 + (scaled * GRAY_LEVELS).clip(0, GRAY_LEVELS - 1).astype(int), 0).astype(np.uint8)
    slices = [levels[z] for z in range(len(levels)) if mask[z].any()]
    pairs = sum(graycomatrix(each, [1], DIRECTIONS, GRAY_LEVELS + 1, symmetric=True) for each in slices)
    inside = pairs[1:, 1:].sum(axis=(2, 3), keepdims=True).astype(float)
    if not inside.any():
        return {}
    return {name: float(graycoprops(inside / inside.sum(), name)[0, 0]) for name in TEXTURES}


def radiomics_classifiers(seed: int) -> dict[str, Pipeline]:
    """Return the classifiers by name; every class counts the same."""
    forest = RandomForestClassifier(TREES, class_weight="balanced_subsample", random_state=seed)
    return {
        "radiomics, SVC": make_pipeline(SimpleImputer(), StandardScaler(), SVC(class_weight="balanced")),
        "radiomics, random forest": make_pipeline(SimpleImputer(strategy="median"), forest),
    }


def fit_and_score(
    classifier: Pipeline, features: pd.DataFrame, labels: Mapping[str, int], train: Sequence[str], test: Sequence[str]
) -> np.ndarray:
    """Return a score for each class, (test cases, classes); its largest is the predicted class.

    A forest gives probabilities; an SVC the softmax of its decision values, which are none.

    Parameters
    ----------
    classifier : Pipeline
        Of `radiomics_classifiers`.
    features : DataFrame
        A row a case.
    labels : mapping of str to int
        Class of each case; every class occurs in `train`.
    train, test : sequence of str
        Cases.
    """
    # A feature that no training case has says nothing.
    known = features.loc[list(train)].dropna(axis=1, how="all").columns
    classifier.fit(features.loc[list(train), known].to_numpy(), [labels[case] for case in train])
    values = features.loc[list(test), known].to_numpy()
    if hasattr(classifier[-1], "predict_proba"):
        return classifier.predict_proba(values)
    decisions = classifier.decision_function(values)
    if decisions.ndim == 1:
        decisions = np.stack((-decisions, decisions), 1)
    powers = np.exp(decisions - decisions.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
