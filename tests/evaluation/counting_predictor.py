"""A predictor whose segmentations can be made by hand."""

from types import SimpleNamespace

import numpy as np


class CountingPredictor:
    """Stands for nnU-Net's: thresholds the sum of the channels, and counts its predictions."""

    plans_manager = SimpleNamespace(transpose_forward=[0, 1, 2])
    configuration_manager = SimpleNamespace(spacing=[1.0, 1.0, 1.0])

    def __init__(self):
        self.images = []
        self.die_at = None

    def predict_single_npy_array(self, image, properties):
        if len(self.images) == self.die_at:
            raise KeyboardInterrupt
        self.images.append(image)
        return predict(image)


def predict(image):
    total = image.sum(0)
    return ((total > 1).astype(np.uint8) + (total > 2)).astype(np.uint8)
