"""Phantom hearts to plan with."""

import shutil

import pytest


@pytest.fixture
def own_hearts(hearts, tmp_path, monkeypatch):
    """The hearts with a preprocessed folder of their own, to plan in."""
    folder = tmp_path / hearts.name
    folder.mkdir()
    for name in ("dataset.json", "dataset_fingerprint.json"):
        shutil.copy(hearts.preprocessed / name, folder)
    for name, value in hearts.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    return hearts
