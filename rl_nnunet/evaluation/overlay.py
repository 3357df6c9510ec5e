"""Pictures of segmentations: middle slices with the contours of reference and prediction."""

from __future__ import annotations

from collections.abc import Sequence

from rl_nnunet.files import new_file


def draw_overlays(cases: Sequence[tuple[str, str, str, str]], file: str) -> None:
    """Draw one row per case: the axial slice with the most foreground, the reference, the prediction.

    Parameters
    ----------
    cases : sequence of tuple
        Title, and the files of the image, the reference and the prediction.
    file : str
        Picture to write; replaced in one step.
    """
    import matplotlib

    matplotlib.use("agg")
    import numpy as np
    import SimpleITK as sitk
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(cases), 3, figsize=(9, 3 * len(cases)), squeeze=False, layout="constrained")
    for row, (title, *files) in zip(axes, cases, strict=True):
        image, reference, prediction = (sitk.GetArrayFromImage(sitk.ReadImage(f)) for f in files)
        index = int((reference > 0).sum((1, 2)).argmax())
        low, high = np.percentile(image[index], (1, 99))
        for axis, labels, name in zip(row, (None, reference, prediction), ("", "reference", "prediction"), strict=True):
            axis.imshow(image[index], cmap="gray", vmin=low, vmax=high)
            if labels is not None:
                shown = np.ma.masked_equal(labels[index], 0)
                axis.imshow(shown, cmap="tab10", vmin=0, vmax=10, alpha=0.5, interpolation="nearest")
            axis.set_title(f"{title} {name}".strip(), fontsize="small")
            axis.axis("off")
    with new_file(file) as unfinished:
        figure.savefig(unfinished, dpi=90)
    plt.close(figure)
